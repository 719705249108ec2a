//! `reindex`: takes into the index of questions what a version without one has written.

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, terminal};
use flows::index::{self, REBUILD_STEP};
use serde_json::json;

/// Goes on where an earlier run was ended, until every invoice, supplier and bill is in the index.
pub(crate) async fn run(place: &PlaceArguments, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let mut looked_at = 0usize;
    loop {
        // Each step has a deadline of its own.
        let context = place.context(&register);
        let before = index::progress(&register).await.map_err(unfinished)?;
        if before.complete {
            break;
        }
        let after = index::rebuild_step(&context, &register)
            .await
            .map_err(unfinished)?;
        looked_at = looked_at.saturating_add(REBUILD_STEP);
        if let (false, Some(id)) = (after.complete, after.through) {
            terminal::note(&format!(
                "about {looked_at} records looked at, invoices through {id}"
            ));
        }
    }
    out.value(
        || json!({ "complete": true }),
        |out| out.line("Every record is in the index: questions are answered from it alone."),
    );
    Ok(())
}
