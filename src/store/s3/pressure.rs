//! What a server says about being asked too much, attempt by attempt: requests are tried again inside the SDK, so nobody else
//! would hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::config::interceptors::{BeforeDeserializationInterceptorContextMut, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// What the SDK heeds when it tries again, in milliseconds; it knows only AWS's own header.
const HEEDED: &str = "x-amz-retry-after";

/// How often a server asked for fewer requests, or let one time out.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Pressure(Arc<AtomicU64>);

impl Pressure {
    pub(in crate::store) fn felt(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn feel(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Intercept for Pressure {
    fn name(&self) -> &'static str {
        "Pressure"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if !matches!(answer.status().as_u16(), 429 | 503) {
            return Ok(());
        }
        self.feel();
        let wait = answer.headers().get("retry-after").and_then(|text| text.trim().parse::<u64>().ok());
        if let Some(seconds) = wait.filter(|_| answer.headers().get(HEEDED).is_none()) {
            answer.headers_mut().try_insert(HEEDED, seconds.saturating_mul(1_000).to_string())?;
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Without an answer: it timed out, or the connection broke.
        if context.response().is_none() {
            self.feel();
        }
        Ok(())
    }
}
