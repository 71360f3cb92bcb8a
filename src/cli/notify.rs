//! `warmspare notify`.

use super::arguments::NotifyTest;
use super::words;
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::error::{Class, Error};
use crate::notify::{self, Tested};

pub(super) async fn test(
    (config, site): (Config, String),
    command: NotifyTest,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    // Who is live is no question of whether a message arrives.
    let live = config.live.clone();
    let here = Here::led(config, &site, live)?;
    let tested = notify::test(&here, command.sink.as_deref(), clock).await?;
    if command.json {
        words::json(&tested)
    } else {
        words::data(&words::table(&rows(&tested)))
    }
    for Tested { error, next, .. } in tested.iter().filter(|tested| !tested.taken) {
        words::say(&format!("error: {}", error.as_deref().unwrap_or_default()));
        words::say(&format!("next:  {}", next.as_deref().unwrap_or_default()));
    }
    Ok(tested.iter().any(|tested| !tested.taken).then_some(Class::Failed))
}

fn rows(tested: &[Tested]) -> Vec<Vec<String>> {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let of = |tested: &Tested| row([&tested.sink, tested.kind, if tested.taken { "taken" } else { "NOT TAKEN" }]);
    std::iter::once(row(["SINK", "KIND", "TEST"])).chain(tested.iter().map(of)).collect()
}
