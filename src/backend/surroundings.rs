//! Where a store runs, as every store is told alike.

use std::sync::Arc;
use std::time::Duration;

use super::{NoWarnings, Warnings};

/// How long an operation may take where nobody says.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// What every store is told alike of where it runs, whatever its target and options are.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The engine bounds each operation by it; a store may tell its server.
    pub operation_timeout: Duration,
    /// Who hears what the store has to say though nothing has failed.
    pub warnings: Arc<dyn Warnings>,
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        Surroundings { operation_timeout: OPERATION_TIMEOUT, warnings: Arc::new(NoWarnings) }
    }
}
