//! Arguments → command → exit code; nothing else.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;
use warmspare::cli::{self, Arguments, LogFormat};
use warmspare::process::{self, WipingAllocator};

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// How long threads that nobody waits for any more may take to end.
const STRAGGLERS_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Before anything is read: the environment and the configuration may lead to secrets.
    if let Err(error) = process::keep_memory_private() {
        eprintln!("error: core dumps cannot be switched off, and keys would be in them: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = process::end_with_parent() {
        eprintln!("error: this run cannot be tied to its daemon: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    log_to_stderr(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the machine gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The daemon and the demonstration end by themselves what they have begun.
    if !arguments.ends_in_order()
        && let Err(error) = process::end_with_groups()
    {
        eprintln!("error: this process cannot be told to end with what it starts: {error}");
        return ExitCode::FAILURE;
    }
    let done = runtime.block_on(cli::run(arguments));
    // A thread that waits for a network disk that is gone must not hold up a command that has its answer.
    runtime.shutdown_timeout(STRAGGLERS_MAX);
    process::end_groups();
    match done {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(class)) => ExitCode::from(class.exit_code()),
        Err(error) => {
            let next = error.next_step().map(|next| format!("next:  {next}\n")).unwrap_or_default();
            // Not eprintln!: it panics when standard error is full or gone, and the exit code would be lost.
            let _ = write!(std::io::stderr().lock(), "error: {error}\n{next}");
            ExitCode::from(error.class().exit_code())
        }
    }
}

fn log_to_stderr(arguments: &Arguments) {
    let level = if arguments.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let lines = tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_max_level(level);
    match arguments.log {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}
