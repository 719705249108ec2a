//! `reindex`: takes into the index of questions what a version without one has written.

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, terminal};
use domain::problem::Problem;
use flows::index::{self, REBUILD_STEP};
use flows::watermark::count;
use serde_json::json;

/// Goes on where an earlier run was ended, until every invoice, supplier and bill is in the index that can be read.
pub(crate) async fn run(place: &PlaceArguments, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let mut looked_at = 0usize;
    let done = loop {
        // Each step has a deadline of its own.
        let context = place.context(&register);
        let after = index::rebuild_step(&context, &register)
            .await
            .map_err(unfinished)?;
        if after.complete {
            break after;
        }
        looked_at = looked_at.saturating_add(REBUILD_STEP);
        if let Some(id) = after.through {
            terminal::note(&format!(
                "about {looked_at} records looked at, invoices through {id}"
            ));
        }
    };
    let left_out = count(done.left_out.len()).saturating_add(done.left_out_others);
    out.value(
        || json!({ "complete": true, "left_out": left_out, "problems": done.left_out }),
        |out| {
            out.line("Every record that can be read is in the index: questions are answered from it alone.")
        },
    );
    if left_out == 0 {
        return Ok(());
    }
    let mut problems = done.left_out;
    if done.left_out_others > 0 {
        let fix = "Mend those that are named, and run it again: it begins anew.";
        problems.push(Problem::new("RECORDS_LEFT_OUT", fix).actual(format!("{} more", done.left_out_others)));
    }
    Err(Failure::Incomplete(problems))
}
