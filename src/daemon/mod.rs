//! The daemon of a site, `warmspare run`: it runs the jobs of the schedule, and with a witness it holds the lease.
//!
//! ```text
//!  signals ──────────┐                        ┌─► child   one run: this executable again, its exit code the verdict
//!  control socket ───┼─► Event ─► Daemon ─────┼─► book    what was run, what is due (jobs/due, pure), jobs/NAME.json
//!  ends of runs ─────┤          (one loop)    └─► status  how jobs stand, told to the other site in the vault
//!  role, time ───────┘                        └─► alarm   what is wrong, told to people (notify); the metrics at the gate
//! ```
//!
//! One loop over one enum; between two events whatever is due begins. It looks at the clock every few seconds, so that a clock that
//! jumps, and a machine that slept, are noticed. Told to end it tells its runs to, waits for them, and closes the lease last: they write
//! under it.

mod alarm;
mod child;
mod event;
mod manual;
mod reload;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use manual::{JobError, Jobs, class_of, until};

use alarm::{Alarm, Seen};
use child::{Ended, Orders, Place};
use event::{Event, Events};
use status::Teller;

use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::durable::FileLock;
use crate::error::{Error, Explain, chain};
use crate::failpoint;
use crate::jobs::{Book, HistoryError, JobRecord, Moment, Pause, Run, RunVerdict};
use crate::schedule::{Job, Role, Schedule};
use crate::site::daemon::words::{JobAsk, Told};
use crate::site::daemon::{Asked, Desk, Lease, Seat, Supervisor, listen, machine, only_one, serve, socket};

/// The clock is looked at this often, whatever is due.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// For runs to end when the daemon does, before they are left to the kernel.
const FAREWELL: Duration = Duration::from_secs(45);
/// Whoever pauses a job for longer has forgotten it.
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(31 * 24);
/// Questions about jobs that wait.
const QUESTIONS_MAX: usize = 16;

/// A daemon that runs.
struct Daemon {
    config: Config,
    here: Here,
    /// The same, for whoever holds the lease.
    accepted: watch::Sender<Here>,
    clock: Arc<dyn Clock>,
    seat: Option<Seat>,
    schedule: Schedule,
    book: Book,
    role: Role,
    place: Place,
    runs: JoinSet<Ended>,
    /// Why each run must end, while it is under way.
    stops: BTreeMap<String, watch::Sender<Option<String>>>,
    /// How often the configuration was read again: runs that listen read it again, too.
    reloads: watch::Sender<u64>,
    /// Who waits for the end of a run.
    waiting: BTreeMap<String, Vec<mpsc::Sender<Told>>>,
    manager: Supervisor,
    shown: Option<String>,
    /// The configuration's file, as it was read last.
    seen: String,
    teller: Teller,
    alarm: Alarm,
}

/// Runs the daemon of the site `name` until it is told to end.
///
/// # Errors
/// When it cannot begin, or cannot go on.
pub async fn run(config: Config, name: &str, clock: Arc<dyn Clock>) -> Result<(), Error> {
    let here = Here::led(config.clone(), name, config.live.clone())?;
    let manager = Supervisor::of_environment().map_err(machine("NOTIFY_SOCKET of the environment"))?;
    let program = std::env::current_exe().map_err(machine("this executable"))?;
    let _lock = only_one(&here)?;
    let state = here.site.state.clone();
    let book = open_book(&here, &config.schedule, clock.now())?;
    let alarm = Alarm::new(&here, &clock)?;
    let (config, text) = reload::accept(&config.path, &state)?;
    // What holds is what is written down as accepted, also when the file has changed since it was read first.
    let here = Here::led(config.clone(), name, config.live.clone())?;
    let accepted = watch::Sender::new(here.clone());
    let begin = || Lease::begin(accepted.subscribe(), &clock, alarm.page());
    let lease = config.witness.as_ref().map(|_| begin()).transpose()?;
    let seat = lease.as_ref().map(|lease| lease.seat(name));
    let listener = listen(&state).map_err(machine(&socket(&state).display().to_string()))?;
    let (jobs, asked) = mpsc::channel(QUESTIONS_MAX);
    let desk = Desk { clock: Arc::clone(&clock), lease: seat.clone(), jobs };
    let serving = tokio::spawn(serve(listener, desk));
    let mut events = Events::new(lease, seat.clone(), serving, asked)?;
    let mut daemon = Daemon {
        place: Place { program, config: reload::accepted(&state), site: name.to_owned() },
        schedule: config.schedule.clone(),
        teller: Teller::new(name, Arc::clone(&clock)),
        alarm,
        config,
        here,
        accepted,
        clock,
        seat,
        book,
        role: Role::Between,
        runs: JoinSet::new(),
        stops: BTreeMap::new(),
        reloads: watch::Sender::new(0),
        waiting: BTreeMap::new(),
        manager,
        shown: None,
        seen: text,
    };
    daemon.tell_jobs();
    daemon.manager.tell("READY=1");
    let done = daemon.turn(&mut events).await;
    daemon.manager.tell("STOPPING=1");
    daemon.part(&mut events).await;
    let closed = events.close();
    done.and(closed)
}

/// What was remembered of the jobs. Runs that were under way when another daemon ended are lost.
fn open_book(here: &Here, schedule: &Schedule, now: Timestamp) -> Result<Book, HistoryError> {
    let state = &here.site.state;
    let mut book = Book::default();
    for job in schedule.jobs() {
        if let Some(record) = remembered(state, &job.name)? {
            book.records.insert(job.name.clone(), record);
        }
    }
    for name in book.lose(now) {
        tracing::warn!(job = %name, "it was under way when the daemon ended: that run is lost");
        if let Some(record) = book.records.get(&name) {
            record.save(state)?;
        }
    }
    Ok(book)
}

/// A damaged record is set aside: the job begins a new one, and the site goes on being protected.
fn remembered(state: &std::path::Path, name: &str) -> Result<Option<JobRecord>, HistoryError> {
    match JobRecord::load(state, name) {
        Err(HistoryError::Damaged { name, path, what }) => {
            let aside = path.with_extension("json.damaged");
            tracing::error!("the record of job {name} is damaged ({what}) and set aside as {}", aside.display());
            std::fs::rename(&path, &aside).map_err(|source| HistoryError::File { name, path, source })?;
            Ok(None)
        }
        loaded => loaded,
    }
}

impl Daemon {
    /// Until it is told to end, or cannot go on.
    async fn turn(&mut self, events: &mut Events) -> Result<(), Error> {
        loop {
            self.look();
            self.watch(events);
            let pause = self.pause();
            match events.next(&mut self.runs, pause).await {
                Event::Told(signal) => {
                    tracing::info!("told to end by {signal}");
                    return Ok(());
                }
                Event::Failed(error) => return Err(error),
                Event::Reload => self.reload(),
                Event::Asked(asked) => self.answer(asked).await,
                Event::Ended(ended) => self.ended(ended).await,
                Event::Look => {}
            }
        }
    }

    /// Takes in role and time, ends what may not run any more, begins what is due.
    fn look(&mut self) {
        self.look_at_file();
        let role = self.role_now();
        let is_other = role != self.role;
        if is_other {
            tracing::info!("{} is {} for its jobs", self.here.site.name, shown(role));
            self.role = role;
            self.end_misplaced();
        }
        let mut moment = self.moment();
        for name in self.book.recount(&self.schedule, &moment) {
            tracing::warn!(job = %name, "the clock was set back: it is counted from anew");
            self.save(&name);
        }
        if is_other {
            // What is owed from here on is counted from here on, also by a daemon that is started later.
            self.save_all();
        }
        while let Some(start) = self.book.next_start(&self.schedule, &moment) {
            let Some(job) = self.schedule.job(&start.job).cloned() else { return };
            self.begin(job, &start);
            moment = self.moment();
        }
        let standings = self.book.standings(&self.schedule, &moment);
        let live = self.seat.as_ref().map_or_else(|| self.config.live.clone(), Seat::live);
        let here = Here { live, ..self.here.clone() };
        let others = alarm::others(self.seat.as_ref(), &self.here.site.name, self.role, &standings);
        self.alarm.tell(Seen { here, standings: standings.clone(), others });
        self.teller.tell(&self.config, self.role, standings, moment.now);
    }

    fn role_now(&self) -> Role {
        match (&self.seat, &self.config.live) {
            (Some(seat), _) => seat.role(),
            (None, Some(live)) if *live == self.here.site.name => Role::Live,
            (None, _) => Role::Spare,
        }
    }

    fn moment(&self) -> Moment {
        let path = self.here.site.state.join("operation.lock");
        let holder = match FileLock::holder(&path) {
            Ok(holder) => holder,
            Err(error) => Some(format!("{} cannot be looked at: {error}", path.display())),
        };
        Moment { now: self.clock.now(), role: self.role, holder }
    }

    /// A run begins when that is written down; when it cannot be, that is what it came to.
    fn begin(&mut self, job: Job, start: &crate::jobs::Start) {
        self.book.begin(start, self.clock.now());
        if let Some(error) =
            self.book.records.get(&job.name).and_then(|record| record.save(&self.here.site.state).err())
        {
            let what = chain(&error);
            tracing::error!(job = %job.name, "it is not begun: {what}. {}", error.next_step().unwrap_or_default());
            let run = self.book.end(&job.name, RunVerdict::Failed, what, None, self.clock.now());
            self.tell_waiting(&job.name, run);
            return;
        }
        failpoint::hit("daemon.begin");
        tracing::info!(job = %job.name, "it begins");
        let (stop, stopped) = watch::channel(None);
        self.stops.insert(job.name.clone(), stop);
        let orders = Orders { stop: stopped, reload: self.reloads.subscribe() };
        self.runs.spawn(child::carry_out(self.place.clone(), job, orders));
    }

    /// What runs in a role that this site has no more has to let go of it.
    fn end_misplaced(&mut self) {
        for (name, stop) in &self.stops {
            if self.schedule.job(name).is_some_and(|job| !job.on.includes(self.role)) {
                stop.send_replace(Some(format!("this site is {} now", shown(self.role))));
            }
        }
    }

    async fn ended(&mut self, ended: Ended) {
        let Ended { job, verdict, what, point } = ended;
        self.stops.remove(&job);
        match verdict {
            RunVerdict::Done => tracing::info!(job, "it is done: {what}"),
            verdict => tracing::error!(job, "it came to no good end ({}): {what}", verdict.as_str()),
        }
        let run = self.book.end(&job, verdict, what, point, self.clock.now());
        self.save(&job);
        failpoint::hit("daemon.ended");
        self.tell_waiting(&job, run);
    }

    fn tell_waiting(&mut self, job: &str, run: Option<Run>) {
        let Some(run) = run else { return };
        for waits in self.waiting.remove(job).unwrap_or_default() {
            // Whoever hung up does not want to know.
            let _ = waits.try_send(Told::Ran { run: run.clone() });
        }
    }

    fn save(&self, name: &str) {
        let Some(record) = self.book.records.get(name) else { return };
        if let Err(error) = record.save(&self.here.site.state) {
            tracing::error!("{}. {}", chain(&error), error.next_step().unwrap_or_default());
        }
    }

    fn save_all(&self) {
        self.schedule.jobs().iter().for_each(|job| self.save(&job.name));
    }

    async fn answer(&mut self, Asked { ask, answers }: Asked) {
        let moment = self.moment();
        let told = match ask {
            JobAsk::All => Told::Jobs { jobs: self.book.standings(&self.schedule, &moment) },
            JobAsk::Run { job } => self.asked_to_run(&job, &answers),
            JobAsk::Pause { job, until, operator, why } => {
                let pause = Pause { since: moment.now, until, operator, why };
                self.pause_or_resume(&job, Some(pause))
            }
            JobAsk::Resume { job } => self.pause_or_resume(&job, None),
        };
        // There is room for two, and this is the first.
        let _ = answers.try_send(told);
    }

    fn asked_to_run(&mut self, name: &str, answers: &mpsc::Sender<Told>) -> Told {
        let Some(job) = self.schedule.job(name) else { return self.unknown(name) };
        if !job.on.includes(self.role) {
            let what = format!("job {name} runs on {}, and this site is {}", job.on.as_str(), shown(self.role));
            return Told::Refused { what, next: Some("Ask for it at the other site.".to_owned()) };
        }
        if !self.stops.contains_key(name) {
            self.book.asked.insert(name.to_owned());
        }
        self.waiting.entry(name.to_owned()).or_default().push(answers.clone());
        Told::Done
    }

    fn pause_or_resume(&mut self, name: &str, pause: Option<Pause>) -> Told {
        if self.schedule.job(name).is_none() {
            return self.unknown(name);
        }
        let now = self.clock.now();
        if let Some(wrong) = pause.as_ref().and_then(|pause| manual::wrong_pause(pause.until, now)) {
            return Told::Refused { what: wrong.to_string(), next: wrong.next_step() };
        }
        let Some(record) = self.book.records.get_mut(name) else { return self.unknown(name) };
        match &pause {
            Some(pause) => {
                tracing::warn!(job = name, "paused until {} by {}: {}", pause.until, pause.operator, pause.why);
            }
            None => tracing::info!(job = name, "resumed"),
        }
        record.pause = pause;
        match record.save(&self.here.site.state) {
            Ok(()) => Told::Done,
            Err(error) => Told::Refused { what: chain(&error), next: error.next_step() },
        }
    }

    fn unknown(&self, name: &str) -> Told {
        let known: Vec<&str> = self.schedule.jobs().iter().map(|job| job.name.as_str()).collect();
        let what = format!("there is no job `{name}` (there are: {})", known.join(", "));
        Told::Refused { what, next: Some("`warmspare jobs` lists them.".to_owned()) }
    }

    /// Says which jobs there are, once.
    fn tell_jobs(&self) {
        if self.schedule.jobs().is_empty() {
            tracing::warn!("the schedule has no jobs: nothing runs by itself at {}", self.here.site.name);
        }
        for job in self.schedule.jobs() {
            let at = job.at.as_ref().map_or("after others".to_owned(), |line| format!("at {line}"));
            tracing::info!(job = %job.name, "{} on {}, {at}", job.kind, job.on.as_str());
        }
    }

    /// How long to wait for an event, before the clock is looked at again.
    fn pause(&self) -> Duration {
        let moment = Moment { now: self.clock.now(), role: self.role, holder: None };
        let wake = self.book.wake_at(&self.schedule, &moment, moment.now + LOOK_EVERY);
        let pause = Duration::try_from(wake.duration_since(moment.now)).unwrap_or_default();
        // Not before it is due: a timer may be early by less than that.
        let pause = pause + Duration::from_millis(1);
        self.manager.watchdog.map_or(pause, |watchdog| pause.min(watchdog))
    }

    /// Tells the service manager that all is well as long as this loop and the driver of the lease turn.
    fn watch(&mut self, events: &Events) {
        if self.manager.watchdog.is_some() && events.is_turning(&*self.clock) {
            self.manager.tell("WATCHDOG=1");
        }
        let running: Vec<&str> = self.stops.keys().map(String::as_str).collect();
        let running = if running.is_empty() { "idle".to_owned() } else { format!("running {}", running.join(", ")) };
        let line = match &self.seat {
            Some(seat) => format!("{}; {running}", seat.line(&*self.clock)),
            None => format!("{}; {running}", shown(self.role)),
        };
        if self.shown.as_ref() != Some(&line) {
            self.manager.tell(&format!("STATUS={line}"));
            self.shown = Some(line);
        }
    }

    /// Tells what runs to end, and waits until it has.
    async fn part(&mut self, events: &mut Events) {
        for stop in self.stops.values() {
            stop.send_replace(Some("the daemon was told to end".to_owned()));
        }
        let parting = async {
            while let Some(ended) = self.runs.join_next().await {
                match ended {
                    Ok(ended) => self.ended(ended).await,
                    Err(error) => tracing::error!("a run was lost: {error}"),
                }
            }
        };
        tokio::select! {
            () = parting => {}
            () = tokio::time::sleep(FAREWELL) => tracing::error!("runs have not ended in {} s", FAREWELL.as_secs()),
            error = events.failed() => tracing::error!("{error}"),
        }
    }
}

fn shown(role: Role) -> &'static str {
    match role {
        Role::Live => "live",
        Role::Spare => "the spare",
        Role::Between => "neither live nor the spare",
    }
}
