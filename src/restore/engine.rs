//! The engine: chooses the point, goes through the plan in three passes, and writes down each thing done.

use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::RestoreError;
use super::journal::{Entry, Journal, Phase};
use super::latest::{begun_last, latest, set_latest};
use super::plan::{self, Placing, PlannedStep};
use super::report::{RestoreReport, StepReport, accepted, verdict_of};
use super::request::RestoreRequest;
use super::status::tell;
use super::step::{Compared, Left, Loaded, Step, Surroundings, Swapped};
use super::steps::database::Lived;
use crate::clock::Clock;
use crate::config::address::BucketUrl;
use crate::config::{Here, SourceKind, SourceName};
use crate::durable;
use crate::error::Error;
use crate::failpoint;
use crate::keys::{Identity, SigningKey};
use crate::observe::Progress;
use crate::point;
use crate::store::Keys;
use crate::vault::layout::PointId;
use crate::vault::v1::Verdict;
use crate::vault::{ListedPoint, NewProof, VaultReader, put_proof};

/// What a restore would do.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The point it would restore.
    pub point: String,
    /// The instant the point stands for.
    pub captured_at: jiff::Timestamp,
    /// The steps, in order.
    pub steps: Vec<PreviewStep>,
}

/// One step of a [`Preview`].
#[derive(Clone, Debug, Serialize)]
pub struct PreviewStep {
    /// The step and its source.
    pub step: String,
    /// Where it would go, and what stands there.
    pub place: String,
    /// The length of what the point holds of it.
    pub bytes: u64,
    /// The databases of earlier restores that it would drop: first the unfinished ones, then, once it has replaced what
    /// stands there, those replaced before.
    pub drops: Vec<String>,
}

/// A restore that has been decided on.
struct Decided {
    reader: VaultReader<Keys>,
    keys: Keys,
    identity: Identity,
    point: ListedPoint,
    lived: Option<Lived>,
    steps: Vec<PlannedStep>,
}

/// Restores a recovery point at this site and proves it.
///
/// A red proof is no error: the report's verdict says it, and nothing was swapped in.
///
/// # Errors
/// When it is refused, or fails; run again, it goes on where it stopped.
pub async fn restore(
    here: &Here,
    request: &RestoreRequest,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<RestoreReport, Error> {
    let _lock = here.lock("warmspare restore")?;
    let decided = decide(here, request).await?;
    let signer = here.signing_key()?;
    let mut run = Run::open(here, request, &decided, clock)?;
    // A run that is resumed is asked again: meanwhile another may have brought something newer.
    run.refuse_to_replace(here, request, &decided).await?;
    run.begin(here, request, &decided)?;
    let mut reports: Vec<StepReport> = decided.steps.iter().map(StepReport::begin).collect();
    run.drop_left(here, request, &decided, Left::Unfinished, clock, &mut reports).boxed_local().await?;
    for placing in [Placing::Beside, Placing::InPlace] {
        // What lies beside can be left alone when it is not equal; what replaces files must not have begun by then.
        if run.goes_on(request, &decided, &reports)? {
            run.load_all(here, request, &decided, placing, clock, progress, &mut reports).boxed_local().await?;
            failpoint::hit(placing.failpoint());
            run.prove_all(here, request, &decided, placing, clock, progress, &mut reports).boxed_local().await?;
        }
    }
    if run.goes_on(request, &decided, &reports)? {
        run.swap_all(here, request, &decided, clock, &mut reports).boxed_local().await?;
        run.drop_left(here, request, &decided, Left::Replaced, clock, &mut reports).boxed_local().await?;
    }
    run.finish(here, request, &decided, &signer, clock, reports).await
}

/// What [`restore`] would do, without doing it.
///
/// # Errors
/// When it would be refused.
pub async fn preview(here: &Here, request: &RestoreRequest) -> Result<Preview, Error> {
    let decided = decide(here, request).await?;
    refuse_to_replace(here, request, &decided).await?;
    let around = decided.around(here, request, Path::new(""));
    // What the run that may be gone on with has made is not dropped.
    let finished =
        |journal: &Journal| journal.done::<serde_json::Value>("", Phase::Finished).map(|found| found.is_some());
    let folder = match begun_last(here)? {
        Some((name, journal)) if !finished(&journal)? => name,
        _ => String::new(),
    };
    let resumable = Surroundings { folder: Path::new(&folder), ..around };
    let mut steps = Vec::new();
    for planned in &decided.steps {
        let step = Step::new(&around, planned)?;
        let mut drops = Step::new(&resumable, planned)?.left(Left::Unfinished).await?;
        drops.extend(step.left(Left::Replaced).await?);
        let (step, place, bytes) = (planned.to_string(), step.place().await?, step.header.bytes);
        steps.push(PreviewStep { step, place, bytes, drops });
    }
    let ListedPoint { id, record, .. } = &decided.point;
    Ok(Preview { point: id.to_string(), captured_at: record.captured_at, steps })
}

async fn decide(here: &Here, request: &RestoreRequest) -> Result<Decided, Error> {
    refuse_live(here, here.live.as_deref(), request.on_live.as_deref(), request.into.is_some())?;
    let identity = here.identity()?;
    let (keys, reader) = point::open_vault(here).await?;
    let points = point::list(here).await?;
    let id = request.point.as_deref().map(str::parse::<PointId>).transpose()?;
    let point = points.choose(id)?.clone();
    let steps = choose_steps(here, request, &point)?;
    let lived = if here.is_live() { Some(Lived::Now) } else { points.newest_of(&here.site.name).map(Lived::At) };
    Ok(Decided { reader, keys, identity, point, lived, steps })
}

/// Refuses to replace the data of the `live` site, unless a person typed its name, or everything goes `beside` them.
pub(super) fn refuse_live(here: &Here, live: Option<&str>, typed: Option<&str>, beside: bool) -> Result<(), Error> {
    let site = here.site.name.clone();
    match typed {
        Some(given) if given != site => Err(RestoreError::WrongSite { site, given: given.to_owned() }.into()),
        None if live == Some(&site) && !beside => Err(RestoreError::LiveSite { site }.into()),
        _ => Ok(()),
    }
}

/// The steps asked for, each with a place at this site.
fn choose_steps(here: &Here, request: &RestoreRequest, point: &ListedPoint) -> Result<Vec<PlannedStep>, Error> {
    let sources: Vec<SourceName> = point.headers.iter().map(|(source, _, _)| source.clone()).collect();
    let profile = &here.config.profile;
    let mut steps = plan::steps(&profile.name, &profile.plan, &sources)?;
    for only in &request.only {
        if !sources.iter().any(|source| source.to_string() == *only) {
            return Err(RestoreError::NotInPoint { point: point.id, source_name: only.clone() }.into());
        }
    }
    if !request.only.is_empty() {
        steps.retain(|step| request.only.contains(&step.source.to_string()));
    }
    if let Some(into) = &request.into {
        let wrong = |what: &str| RestoreError::Into { into: into.clone(), what: what.to_owned() };
        match steps.as_slice() {
            [step] if step.source.kind == SourceKind::Bucket && BucketUrl::parse(into).is_none() => {
                return Err(
                    wrong("a bucket goes into a folder, written from the root, or s3://, gs:// or az://").into()
                );
            }
            [step] if step.source.kind == SourceKind::Export && !into.starts_with('/') => {
                return Err(wrong("an export goes into a folder, written from the root").into());
            }
            // PostgreSQL: NAMEDATALEN - 1; a longer name is refused only when hours of loading are over.
            [step] if step.source.kind == SourceKind::Database && !(1..=63).contains(&into.len()) => {
                return Err(wrong("the name of a database has 1 to 63 bytes").into());
            }
            [_] => {}
            _ => return Err(wrong("name exactly one source with --only").into()),
        }
    }
    let here_sources = here.site.sources();
    if let Some(homeless) = steps.iter().find(|step| !here_sources.contains(&step.source)) {
        let (source_name, site) = (homeless.source.to_string(), here.site.name.clone());
        return Err(RestoreError::NoPlace { point: point.id, source_name, site }.into());
    }
    Ok(steps)
}

impl Decided {
    fn around<'a>(&'a self, here: &'a Here, request: &'a RestoreRequest, folder: &'a Path) -> Surroundings<'a> {
        let Decided { reader, identity, point, lived, .. } = self;
        let since = jiff::Timestamp::UNIX_EPOCH;
        let (into, replace, asked) = (request.into.as_deref(), request.replace, !request.only.is_empty());
        let rehearsal = request.rehearsal;
        Surroundings { here, into, reader, identity, point, lived: *lived, replace, asked, rehearsal, folder, since }
    }

    /// The steps of one kind of place, in the plan's order, each with its report.
    fn of<'a>(
        &'a self,
        placing: Placing,
        reports: &'a mut [StepReport],
    ) -> impl Iterator<Item = (&'a PlannedStep, &'a mut StepReport)> {
        self.steps.iter().zip(reports).filter(move |(planned, _)| planned.kind.placing() == placing)
    }
}

/// Refuses to replace what is newer than the point, or is not from a point, before anything is loaded.
async fn refuse_to_replace(here: &Here, request: &RestoreRequest, decided: &Decided) -> Result<(), Error> {
    let around = decided.around(here, request, Path::new(""));
    for planned in &decided.steps {
        refuse_step(&Step::new(&around, planned)?, request, decided, false).await?;
    }
    Ok(())
}

async fn refuse_step(step: &Step<'_>, request: &RestoreRequest, decided: &Decided, resumed: bool) -> Result<(), Error> {
    let Some((place, standing)) = step.would_replace(request.replace, resumed).await? else { return Ok(()) };
    let (site, point) = (step.site(), decided.point.id);
    Err(RestoreError::WouldReplace { place, site, standing, point }.into())
}

/// One run: its folder and its journal.
struct Run {
    folder: PathBuf,
    journal: Journal,
    started_at: jiff::Timestamp,
    resumed: bool,
}

impl Run {
    /// The unfinished run of the same request if none was begun after it, or a new one, not begun yet.
    fn open(here: &Here, request: &RestoreRequest, decided: &Decided, clock: &dyn Clock) -> Result<Self, Error> {
        let all = here.site.state.join("restores");
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| RestoreError::Folder { path, source }
        };
        durable::private_folder(&all).map_err(wrong(&all))?;
        let request = RestoreRequest { point: Some(decided.point.id.to_string()), ..request.clone() };
        // What a run loaded holds only until another one is begun: that one puts other files in the same places.
        let latest = latest(here)?;
        for number in 1u32.. {
            let name = format!("{}-{number:03}", decided.point.id);
            let folder = all.join(&name);
            durable::private_folder(&folder).map_err(wrong(&folder))?;
            let journal = Journal::open(&folder.join("journal.jsonl"))?;
            let begun = journal.entries().first().map(|entry| entry.at);
            if let Some(started_at) = begun {
                let finished = journal.done::<serde_json::Value>("", Phase::Finished)?.is_some();
                let same = journal.done::<RestoreRequest>("", Phase::Begun)?.is_some_and(|(b, _)| b.is_of(&request));
                if finished || !same || latest.as_ref() != Some(&name) {
                    continue;
                }
                return Ok(Run { folder, journal, started_at, resumed: true });
            }
            return Ok(Run { folder, journal, started_at: clock.now(), resumed: false });
        }
        Err(RestoreError::Folder { path: all, source: std::io::ErrorKind::QuotaExceeded.into() }.into())
    }

    /// Writes down what a new run was asked, once nothing stands against it.
    fn begin(&mut self, here: &Here, request: &RestoreRequest, decided: &Decided) -> Result<(), Error> {
        if self.resumed {
            return Ok(());
        }
        set_latest(here, &self.folder)?;
        let request = RestoreRequest { point: Some(decided.point.id.to_string()), ..request.clone() };
        let value = serde_json::to_value(&request).map_err(RestoreError::Value)?;
        let entry = Entry { step: String::new(), phase: Phase::Begun, at: self.started_at, millis: 0, value };
        Ok(self.journal.write(entry)?)
    }

    /// What `work` comes to, written down; taken from the journal if it was done before.
    async fn once<T: Serialize + DeserializeOwned>(
        &mut self,
        step: &PlannedStep,
        phase: Phase,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<(T, u64), Error> {
        let step = step.to_string();
        if let Some(done) = self.journal.done(&step, phase)? {
            return Ok(done);
        }
        self.now(&step, phase, clock, work).await
    }

    /// As [`Run::once`], whether or not it was done before.
    async fn now<T: Serialize>(
        &mut self,
        step: &str,
        phase: Phase,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<(T, u64), Error> {
        let begun = Instant::now();
        let value = work.await?;
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let json = serde_json::to_value(&value).map_err(RestoreError::Value)?;
        self.journal.write(Entry { step: step.to_owned(), phase, at: clock.now(), millis, value: json })?;
        Ok((value, millis))
    }

    /// Whether everything was found equal before this run was killed, and what stood there began to be replaced.
    fn swapping(&self) -> Result<bool, Error> {
        Ok(self.journal.done::<()>("", Phase::Swapping)?.is_some())
    }

    /// How many of the differences found so far a person has accepted: what began to replace something has its word.
    fn accepted(&self, request: &RestoreRequest, decided: &Decided, reports: &[StepReport]) -> Result<u64, Error> {
        let limit = if self.swapping()? { u64::MAX } else { request.accept };
        Ok(accepted(&decided.steps, reports, limit))
    }

    /// Whether what is restored so far may stand.
    fn goes_on(&self, request: &RestoreRequest, decided: &Decided, reports: &[StepReport]) -> Result<bool, Error> {
        Ok(verdict_of(reports) == Verdict::Equal || self.accepted(request, decided, reports)? > 0)
    }

    /// Whether the step had nothing to load.
    fn held(&self, step: &PlannedStep) -> Result<bool, Error> {
        Ok(self.journal.done::<Loaded>(&step.to_string(), Phase::Loaded)?.is_some_and(|(loaded, _)| loaded.held))
    }

    async fn refuse_to_replace(&self, here: &Here, request: &RestoreRequest, decided: &Decided) -> Result<(), Error> {
        let around = decided.around(here, request, &self.folder);
        for planned in &decided.steps {
            if self.journal.done::<Swapped>(&planned.to_string(), Phase::Swapped)?.is_none() {
                refuse_step(&Step::new(&around, planned)?, request, decided, self.resumed).await?;
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "an act of the run needs what the others need")]
    async fn load_all(
        &mut self,
        here: &Here,
        request: &RestoreRequest,
        decided: &Decided,
        placing: Placing,
        clock: &dyn Clock,
        progress: &Progress,
        reports: &mut [StepReport],
    ) -> Result<(), Error> {
        let folder = self.folder.clone();
        let around = Surroundings { since: self.started_at, ..decided.around(here, request, &folder) };
        for (planned, report) in decided.of(placing, reports) {
            let step = Step::new(&around, planned)?;
            // Loaded before this run was killed: somebody may have removed or changed it since.
            let before = self.journal.done::<Loaded>(&planned.to_string(), Phase::Loaded)?;
            let (loaded, load_millis) = match before {
                Some(before) if self.swapping()? || step.stands().await? => before,
                None if step.holds().await? => {
                    self.now(&planned.to_string(), Phase::Loaded, clock, async { Ok(Loaded::already()) }).await?
                }
                before => {
                    let kept = before.map_or_else(Vec::new, |(loaded, _)| loaded.kept);
                    let load = async { step.load(progress).boxed_local().await.map(|loaded| loaded.with_kept(kept)) };
                    self.now(&planned.to_string(), Phase::Loaded, clock, load).await?
                }
            };
            report.load_millis = load_millis;
            report.loaded = loaded.summary;
            report.kept = loaded.kept;
            report.restored = true;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "an act of the run needs what the others need")]
    async fn prove_all(
        &mut self,
        here: &Here,
        request: &RestoreRequest,
        decided: &Decided,
        placing: Placing,
        clock: &dyn Clock,
        progress: &Progress,
        reports: &mut [StepReport],
    ) -> Result<(), Error> {
        let folder = self.folder.clone();
        let around = Surroundings { since: self.started_at, ..decided.around(here, request, &folder) };
        for (planned, report) in decided.of(placing, reports) {
            let step = Step::new(&around, planned)?;
            let (mut compared, mut millis) = if self.swapping()? {
                self.once(planned, Phase::Proven, clock, step.prove(progress).boxed_local()).await?
            } else {
                // Proven before this run was killed says nothing of what stands now.
                self.now(&planned.to_string(), Phase::Proven, clock, step.prove(progress).boxed_local()).await?
            };
            if compared.total > 0 && self.held(planned)? {
                let load = step.load(progress).boxed_local();
                let (loaded, load_millis) = self.now(&planned.to_string(), Phase::Loaded, clock, load).await?;
                (report.loaded, report.load_millis) =
                    (format!("{}; what was held is different", loaded.summary), load_millis);
                (compared, millis) =
                    self.now(&planned.to_string(), Phase::Proven, clock, step.prove(progress).boxed_local()).await?;
            }
            let Compared { summary, differences, total, refused } = compared;
            report.prove_millis = millis;
            report.compared = summary;
            report.differences = differences;
            report.differences_total = total;
            report.refused = refused;
        }
        Ok(())
    }

    async fn swap_all(
        &mut self,
        here: &Here,
        request: &RestoreRequest,
        decided: &Decided,
        clock: &dyn Clock,
        reports: &mut [StepReport],
    ) -> Result<(), Error> {
        let folder = self.folder.clone();
        let around = Surroundings { since: self.started_at, ..decided.around(here, request, &folder) };
        if !request.replace {
            for planned in &decided.steps {
                if !self.held(planned)? && self.journal.done::<Swapped>(&planned.to_string(), Phase::Swapped)?.is_none()
                {
                    Step::new(&around, planned)?.refuse_in_use().boxed_local().await?;
                }
            }
        }
        if !self.swapping()? {
            self.now("", Phase::Swapping, clock, async { Ok(()) }).await?;
        }
        for (planned, report) in decided.steps.iter().zip(reports) {
            let step = Step::new(&around, planned)?;
            // Role and place were looked at minutes ago; both are again before anything is replaced.
            let live = here.live_again()?;
            refuse_live(here, live.as_deref(), request.on_live.as_deref(), request.into.is_some())?;
            if self.journal.done::<Swapped>(&planned.to_string(), Phase::Swapped)?.is_none() {
                refuse_step(&step, request, decided, true).await?;
            }
            let held = self.held(planned)?;
            let swap =
                async { if held { Ok(Swapped::default()) } else { step.swap(request.replace).boxed_local().await } };
            let (swapped, _) = self.once(planned, Phase::Swapped, clock, swap).await?;
            let Swapped { summary, kept } = swapped;
            report.swapped = summary;
            report.kept.extend(kept);
        }
        Ok(())
    }

    /// Drops what earlier restores of the steps' sources have left. The names are written down first, so that a run that was
    /// killed tells all of them.
    async fn drop_left(
        &mut self,
        here: &Here,
        request: &RestoreRequest,
        decided: &Decided,
        which: Left,
        clock: &dyn Clock,
        reports: &mut [StepReport],
    ) -> Result<(), Error> {
        let folder = self.folder.clone();
        let around = Surroundings { since: self.started_at, ..decided.around(here, request, &folder) };
        let phase = match which {
            Left::Unfinished => Phase::Clearing,
            Left::Replaced => Phase::Dropping,
        };
        for (planned, report) in decided.steps.iter().zip(reports) {
            let step = Step::new(&around, planned)?;
            // Where this run kept nothing, what was kept before is all there is to go back to.
            if which == Left::Replaced && report.kept.is_empty() {
                continue;
            }
            let names: Vec<String> = match self.journal.done(&planned.to_string(), phase)? {
                Some((names, _)) => names,
                None => step.left(which).await?,
            };
            if !names.is_empty() {
                let (names, _) = self.once(planned, phase, clock, async { Ok(names) }).await?;
                report.dropped.extend(step.drop_left(which, &names).boxed_local().await?);
            }
        }
        Ok(())
    }

    async fn finish(
        mut self,
        here: &Here,
        request: &RestoreRequest,
        decided: &Decided,
        signer: &SigningKey,
        clock: &dyn Clock,
        steps: Vec<StepReport>,
    ) -> Result<RestoreReport, Error> {
        let (verdict, accepted) = (verdict_of(&steps), self.accepted(request, decided, &steps)?);
        let ListedPoint { id, record, headers, .. } = &decided.point;
        let mut report = RestoreReport {
            system: record.system.clone(),
            point: id.to_string(),
            captured_at: record.captured_at,
            site: here.site.name.clone(),
            started_at: self.started_at,
            finished_at: clock.now(),
            resumed: self.resumed,
            complete: decided.steps.len() == headers.len() && steps.iter().all(|step| step.restored),
            verdict,
            accepted,
            steps,
            proof: None,
            folder: self.folder.clone(),
        };
        // First on this disk: whoever waits must learn what came of it even when the vault takes no proof.
        self.write_report(&report)?;
        if request.into.is_none() {
            let signed = self.sign(here, decided, signer, clock, &report).await;
            let folder = self.folder.clone();
            report.proof =
                Some(signed.map_err(|cause| RestoreError::Unsigned { point: *id, verdict, folder, cause })?);
            self.write_report(&report)?;
            if report.complete && verdict == Verdict::Equal {
                tell(here, &decided.keys, &decided.reader, *id, signer, clock).await?;
            }
        }
        let value = serde_json::to_value(&report).map_err(RestoreError::Value)?;
        self.journal.write(Entry {
            step: String::new(),
            phase: Phase::Finished,
            at: report.finished_at,
            millis: 0,
            value,
        })?;
        Ok(report)
    }

    /// Puts the proof into the vault, once per run.
    async fn sign(
        &mut self,
        here: &Here,
        decided: &Decided,
        signer: &SigningKey,
        clock: &dyn Clock,
        report: &RestoreReport,
    ) -> Result<u64, Error> {
        if let Some((seq, _)) = self.journal.done("", Phase::Signed)? {
            return Ok(seq);
        }
        let proof = NewProof {
            verdict: report.verdict,
            complete: report.complete,
            started_at: report.started_at,
            finished_at: report.finished_at,
            steps: report.steps.iter().map(StepReport::to_proof).collect(),
        };
        let site = &here.site.name;
        // Asked now, not hours ago: a proof that this run put before it was killed has taken a number.
        let last = decided.reader.last_proof(decided.point.id, site).await?;
        let (_, record) = put_proof(&decided.keys, &decided.point, site, last, proof, signer).await?;
        self.journal.write(Entry {
            step: String::new(),
            phase: Phase::Signed,
            at: clock.now(),
            millis: 0,
            value: record.seq.into(),
        })?;
        Ok(record.seq)
    }

    fn write_report(&self, report: &RestoreReport) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(report).map_err(RestoreError::Value)?;
        for (name, content) in [("report.json", json), ("report.txt", report.to_text().into_bytes())] {
            let path = self.folder.join(name);
            durable::replace(&path, &content).map_err(|source| RestoreError::Folder { path, source })?;
            failpoint::hit("restore.report");
        }
        Ok(())
    }
}
