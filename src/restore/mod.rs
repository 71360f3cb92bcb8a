//! 6 RESTORE: a recovery point comes back at the spare, is proven equal, and takes the place of what stood there.
//!
//! Three passes over the plan's steps: everything is loaded, everything is compared with the point, and only
//! when all of it is equal are databases swapped in. A journal makes each pass resumable; a signed proof ends it. What was
//! replaced is kept until the next restore is proven, can be listed, and comes back by an undo.

mod engine;
mod error;
mod journal;
mod kept;
mod latest;
mod plan;
mod promote;
mod rehearse;
mod report;
mod request;
mod standing;
mod status;
mod step;
pub mod steps;
mod tables;
mod undo;

pub use engine::{preview, restore};
pub use error::RestoreError;
pub use journal::{Entry, Journal, JournalError, Phase};
pub use kept::{KeptDatabase, kept};
pub use plan::{PlanError, PlannedStep, StepKind, steps as planned_steps};
pub use promote::{PromoteReport, PromoteRequest, PromotedDatabase, Promotion};
pub use promote::{go_live, newest_promotion, preview_promote, promote};
pub use rehearse::{NothingNew, nothing_new};
pub use report::{RestoreReport, StepReport};
pub use request::RestoreRequest;
pub use standing::stands;
pub use steps::database::Part;
pub use tables::{TableReport, TablesReport, TablesRequest, tables};
pub use undo::{UndoReport, UndoRequest, UndoneDatabase, preview_undo, undo};
