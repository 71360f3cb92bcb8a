//! Leave to write, asked for where object_store would not ask.

use crate::permit::Permit;
use crate::store::error::{Place, StoreError};

/// One write, if it may start, given up when it takes longer than the permit allows. Under a permit that ends, `write` must try once:
/// it does not ask before it tries again.
pub(in crate::store) async fn permitted<T>(
    permit: &Permit,
    at: &Place,
    write: impl Future<Output = T>,
) -> Result<T, StoreError> {
    let Some(longest) = permit.request_max() else { return Ok(write.await) };
    permit.may_start(longest).map_err(|source| StoreError::Withdrawn { at: at.clone(), source })?;
    let written = tokio::time::timeout(longest, write).await;
    written.map_err(|late| StoreError::Unavailable { at: at.clone(), source: late.into() })
}
