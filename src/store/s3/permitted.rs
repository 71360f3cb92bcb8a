//! Every request that changes something asks for leave right before it is sent, each attempt on its own. That it does is not left
//! to whoever sends it: the client itself asks.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::client::{CONNECT_TIMEOUT, READ_TIMEOUT};
use crate::permit::{Permit, Withdrawn};

#[derive(Debug)]
struct Permitted(Permit);

impl Intercept for Permitted {
    fn name(&self) -> &'static str {
        "Permitted"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        match context.request().method() {
            "GET" | "HEAD" => Ok(()),
            _ => Ok(self.0.may_request()?),
        }
    }
}

/// The same client under `permit`: no attempt takes longer than that allows.
pub(super) fn under(client: &Client, permit: &Permit) -> Client {
    let Some(longest) = permit.request_max() else { return client.clone() };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(longest))
        .read_timeout(READ_TIMEOUT.min(longest))
        .operation_attempt_timeout(longest)
        .build();
    let config = client.config().to_builder().interceptor(Permitted(permit.clone())).timeout_config(timeouts);
    Client::from_conf(config.build())
}

/// Whether a request was not sent for want of leave.
pub(super) fn withdrawn(error: &(dyn std::error::Error + 'static)) -> Option<Withdrawn> {
    std::iter::successors(Some(error), |link| link.source()).find_map(|link| link.downcast_ref::<Withdrawn>().copied())
}
