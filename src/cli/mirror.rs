//! `warmspare mirror`.

use std::sync::Arc;

use super::arguments::{MirrorCommand, MirrorRun, RescuedCommand};
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error, Explain, chain};
use crate::point::{self, RescuedRequest};
use crate::units::Bytes;

pub(super) async fn run(here: Here, command: MirrorCommand, clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    match command {
        MirrorCommand::Run(command) => mirror(&here, &command, clock).await,
        MirrorCommand::Rescued(command) => rescued(&here, command, &*clock).await,
    }
}

async fn mirror(here: &Here, command: &MirrorRun, clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    if command.dry_run {
        let planned = point::preview_mirrors(here).await?;
        words::json(&planned);
        return Ok(None);
    }
    let passes = point::mirror_now(here, clock, &progress::progress()).await?;
    if command.json {
        words::json(&passes);
    }
    let mut outcome = None;
    for pass in &passes {
        if !command.json {
            let (sent, total) = (Bytes(pass.sent_bytes), pass.rows);
            words::data(&format!("{}: {total} objects, {} copied ({sent} sent)\n", pass.source, pass.copied));
        }
        if let Err(error) = pass.complete() {
            words::say(&format!("error: {}", chain(&error)));
            error.next_step().iter().for_each(|next| words::say(&format!("next:  {next}")));
            outcome = Some(Class::Incomplete);
        }
    }
    if passes.is_empty() {
        words::say(&format!("no bucket of {} is mirrored by us", here.site.name));
    }
    Ok(outcome)
}

async fn rescued(here: &Here, command: RescuedCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let RescuedCommand { only, release, release_all, dry_run, json } = command;
    let request = RescuedRequest { only, release, release_all, dry_run };
    let all = point::rescued(here, &request, clock).await?;
    if json {
        words::json(&all);
        return Ok(None);
    }
    let mut rows = vec![["BUCKET", "KEY", "SIZE", "WRITTEN", "BLAKE3", "LIES", ""].map(str::to_owned).to_vec()];
    for (of, record) in all.iter().flat_map(|of| of.objects.iter().map(move |record| (of, record))) {
        let rescued = &record.rescued;
        rows.push(vec![
            of.bucket.clone(),
            format!("{:?}", rescued.key),
            Bytes(rescued.bytes).to_string(),
            words::instant(rescued.modified),
            rescued.blake3.clone(),
            of.place_of(record),
            if record.released { "released".to_owned() } else { String::new() },
        ]);
    }
    if rows.len() == 1 {
        words::say("nothing was rescued");
        return Ok(None);
    }
    words::data(&words::table(&rows));
    if request.dry_run {
        words::say("nothing was changed");
    }
    words::say(
        "Fetch what you need with the client of its store from where it lies, and put it into the live bucket as your application \
         does; then, or if you need it not: `warmspare mirror rescued --release KEY`.",
    );
    Ok(None)
}
