//! Whose the mark in Coupa is, and giving it to this installation.

use crate::Failure;
use crate::act::ReasonOption;
use crate::output::Output;
use crate::place::{Place, PlaceArguments, Systems, unfinished};
use aws::dynamo::DynamoRegister;
use clap::Subcommand;
use domain::explain;
use domain::ids::ConnectionId;
use domain::instruction::Instruction;
use domain::ownership::{Standing, taken_over_after};
use domain::problem::Problem;
use flows::operator::OperatorError;
use flows::owner::{self, Deps, Shown};
use flows::ports::ReadError;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum OwnerVerb {
    /// Which installation the mark in Coupa names, and what this register knows of it. Ends with 4 when it is another one.
    Show,
    /// Gives the mark to this installation, once the other one has provably stopped.
    #[command(
        after_help = "Example: qad-coupa owner take --reason \"the other region is gone for good\" --dry-run"
    )]
    Take(ReasonOption),
}

/// What the command line says when no lookup is named.
fn unguarded() -> Problem {
    Problem::new(
        "OWNER_MARK_OFF",
        "Create a lookup in Coupa (Setup > Lookups) and name it in coupa.owner_lookup, in every installation.",
    )
    .field("coupa.owner_lookup")
    .expected("a lookup that holds the mark")
    .actual("none: two installations on the same Coupa and QAD would not notice each other")
}

fn unread(error: OperatorError) -> Failure {
    match error {
        OperatorError::Refused(problem) => Failure::Refused(problem),
        OperatorError::NotFound(problem) => Failure::NotFound(problem),
        OperatorError::Flow(error) => unfinished(error),
        OperatorError::Read(ReadError::Unavailable { problem, .. }) => Failure::Unreachable(problem),
        OperatorError::Read(error) => error.problem().clone().into(),
    }
}

fn deps<'a>(
    place: &'a Place,
    register: &'a DynamoRegister,
    connection: &'a ConnectionId,
    systems: &'a Systems,
) -> Deps<'a> {
    Deps {
        context: place.context(register),
        connection,
        coupa: &systems.coupa,
        lookup: systems.document.coupa.owner_lookup.as_deref(),
    }
}

/// What Coupa shows, in words.
pub(crate) fn sentence(shown: &Shown) -> String {
    let marks: Vec<String> = shown
        .marks
        .iter()
        .map(|mark| {
            format!(
                "installation {}, connection {}, renewed {}",
                mark.installation,
                mark.connection,
                explain::instant(mark.renewed)
            )
        })
        .collect();
    match &shown.standing {
        Standing::Nobody => "nobody has claimed it yet; whoever works first does".to_owned(),
        Standing::Ours { epoch, .. } => format!("epoch {epoch} is this installation's: {}", marks.join("; ")),
        Standing::Another { epoch, .. } if marks.is_empty() => {
            format!("epoch {epoch} cannot be read: somebody has written over it in Coupa")
        }
        Standing::Another { epoch, .. } => {
            format!("epoch {epoch} is not this register's: {}", marks.join("; "))
        }
    }
}

/// What to type about a mark that lets nothing be begun.
pub(crate) fn command_of(stop: &Problem) -> Option<&'static str> {
    use domain::ownership::{MARK_NOT_RENEWED, MARK_UNKNOWN, OWNED_BY_ANOTHER};
    match stop.code.as_str() {
        OWNED_BY_ANOTHER => Some("`qad-coupa owner take --reason \"…\"`"),
        MARK_UNKNOWN | MARK_NOT_RENEWED => Some("`qad-coupa doctor`"),
        _ => None,
    }
}

/// The same problem with that command.
pub(crate) fn with_command(mut stop: Problem) -> Problem {
    if let Some(command) = command_of(&stop) {
        stop.fix = format!("{} ({command})", stop.fix);
    }
    stop
}

/// What `doctor` says of the mark: whether two installations would notice each other, and whether this one may work.
pub(crate) async fn examine(
    place: &Place,
    register: &DynamoRegister,
    connection: &ConnectionId,
    systems: &Systems,
) -> Result<String, (bool, Problem)> {
    let deps = deps(place, register, connection, systems);
    let Some(lookup) = deps.lookup else {
        return Err((false, unguarded()));
    };
    let shown = owner::show(&deps, lookup).await.map_err(|error| {
        let problem = match error {
            OperatorError::Refused(problem) | OperatorError::NotFound(problem) => problem,
            OperatorError::Flow(error) => error.problem(),
            OperatorError::Read(error) => error.problem().clone(),
        };
        (true, problem)
    })?;
    let stop = shown
        .known
        .as_ref()
        .and_then(|known| known.stop(deps.context.clock.now()));
    match (&shown.standing, stop) {
        (Standing::Another { .. }, Some(problem)) => Err((true, with_command(problem))),
        (Standing::Another { .. }, None) => Err((
            true,
            Problem::new(
                domain::ownership::OWNED_BY_ANOTHER,
                "Switch one of the two installations off.",
            )
            .field(format!("Coupa lookup {lookup}"))
            .actual(sentence(&shown)),
        )),
        (_, Some(problem)) => Err((true, problem)),
        (_, None) => Ok(sentence(&shown)),
    }
}

/// `owner …`.
pub(crate) async fn run(place: &PlaceArguments, verb: OwnerVerb, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let systems = place.systems(&connection).await?;
    let deps = deps(&place, &register, &connection, &systems);
    let Some(lookup) = deps.lookup else {
        return Err(Failure::Differs(unguarded().to_string()));
    };
    match verb {
        OwnerVerb::Show => {
            let shown = owner::show(&deps, lookup).await.map_err(unread)?;
            let stop = shown
                .known
                .as_ref()
                .and_then(|known| known.stop(deps.context.clock.now()));
            let told = sentence(&shown);
            let installation = shown.known.as_ref().map(|known| known.installation.clone());
            out.value(
                || json!({ "connection": connection, "lookup": lookup, "installation": installation, "found": told, "stops": stop }),
                |out| {
                    out.line(&format!("{lookup}: {told}."));
                    if let Some(installation) = &installation {
                        out.line(&format!("This register is installation {installation}."));
                    }
                },
            );
            match (shown.standing, stop) {
                (Standing::Another { .. }, stop) => {
                    let stop = stop.map(with_command);
                    Err(Failure::Differs(stop.map_or(told, |problem| problem.to_string())))
                }
                (_, Some(problem)) => Err(Failure::Differs(with_command(problem).to_string())),
                (_, None) => Ok(()),
            }
        }
        OwnerVerb::Take(why) => {
            let instruction =
                Instruction::new(&place.actor().await?, &why.reason).map_err(Failure::Refused)?;
            let taken = owner::take(&deps, lookup, &instruction, why.dry_run)
                .await
                .map_err(unread)?;
            let hours = taken_over_after(place.timing()).checked_div(60_000).unwrap_or(0);
            out.value(
                || json!({ "connection": connection, "lookup": lookup, "epoch": taken, "dry_run": why.dry_run }),
                |out| {
                    out.line(&match taken {
                        None => "It is this installation's already; nothing was written.".to_owned(),
                        Some(epoch) if why.dry_run => {
                            format!("Epoch {epoch} would be this installation's. Nothing was done (--dry-run).")
                        }
                        Some(epoch) => format!(
                            "Epoch {epoch} is this installation's: what waited goes on within minutes. The other one had not \
                             renewed its mark for {hours} minutes; should it come back, it stops by itself."
                        ),
                    });
                },
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ownership::Mark;
    use domain::time::Timestamp;

    #[test]
    fn whose_the_mark_is_is_told_with_its_installation_and_never_guessed() {
        let mark = Mark {
            installation: "4f0c".to_owned(),
            connection: "acme".parse().unwrap(),
            renewed: Timestamp(1_774_000_000_000),
            beat: "b".to_owned(),
        };
        let told = |standing, marks: &[Mark]| {
            sentence(&Shown {
                known: None,
                standing,
                marks: marks.to_vec(),
            })
        };
        let another = |marks: &[Mark]| Standing::Another {
            epoch: 3,
            marks: marks.to_vec(),
        };
        let one = std::slice::from_ref(&mark);
        assert_eq!(
            told(another(one), one),
            "epoch 3 is not this register's: installation 4f0c, connection acme, renewed 2026-03-20 09:46 UTC"
        );
        assert!(told(another(&[]), &[]).contains("cannot be read"));
        assert!(told(Standing::Nobody, &[]).starts_with("nobody has claimed it"));
    }
}
