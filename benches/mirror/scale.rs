//! Ten million keys against a manifest of ten million rows, one of them changed; then a million with a thousand changes.
//!
//! First of a server that answers as fast as it can, on the cores that the pass uses as well; then of one that takes [`PAGE`] for an
//! answer: there it shows whether what waits for pages asks for enough of them at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use warmspare::mirror::manifest::{Pair, Row, Writer};
use warmspare::mirror::manifest_path;
use warmspare::store::SourceVersion;

use crate::synthetic::{Fault, MODIFIED_SECONDS, Synthetic, content_of, etag_of, key_of, size_of};
use crate::{Outcome, bucket, number};

const RSS_MIB_MAX: u64 = 150;
/// As many as the mirror lists at once.
const READERS: u64 = 8;
/// What an answer takes at a server that has an index to read and a line between: eight readers get 800,000 keys a second.
const PAGE: Duration = Duration::from_millis(10);
/// How much longer than the listing alone a pass should take: a goal, which depends on the machine and fails nothing.
const TIMES_MAX: f64 = 2.0;

pub fn run() -> Outcome<()> {
    let keys = number("WARMSPARE_BENCH_SCALE", 10_000_000)?;
    let few = (keys / 100).max(1_000);
    let many = keys / 10;
    let changed: Vec<u64> = (0..1_000).map(|number| number * (many / 1_000) + 7).collect();
    let mut all = pass_over(few, &[few / 2])?;
    all.extend(pass_over(keys, &[keys / 3])?);
    all.extend(pass_over(many, &changed)?);
    for measured in &all {
        let is_within = measured.wall / measured.listing <= TIMES_MAX;
        println!("{measured}; goal, {TIMES_MAX} × that: {}", if is_within { "reached" } else { "missed" });
    }
    for Measured { keys, peak_mib, .. } in all {
        if peak_mib > RSS_MIB_MAX {
            return Err(format!("{keys} keys took {peak_mib} MiB, more than {RSS_MIB_MAX}").into());
        }
    }
    Ok(())
}

struct Measured {
    keys: u64,
    changed: usize,
    /// What the server takes for a page besides its CPU time.
    page: Option<Duration>,
    /// What listing alone takes: read by as many readers, and nothing done with it.
    listing: f64,
    wall: f64,
    cpu: f64,
    peak_mib: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Measured { keys, changed, page, listing, wall, cpu, peak_mib } = self;
        let server = page.map_or("a server without a pause".to_owned(), |page| format!("{page:?} a page"));
        write!(
            f,
            "{keys} keys, {changed} changed, {server}: {wall:.1} s ({:.0} keys/s), CPU {cpu:.1} s, {peak_mib} MiB; \
             listing alone {listing:.1} s, so {:.2} × that",
            *keys as f64 / wall,
            wall / listing
        )
    }
}

/// Mirrors so many keys, all mirrored before, of which some are changed: once from a server that does not pause, once from one that does.
fn pass_over(keys: u64, changed: &[u64]) -> Outcome<Vec<Measured>> {
    let (live, spare, folder) = (Synthetic::start(keys), Synthetic::start(keys), tempfile::tempdir()?);
    let places = [format!("{}/bucket", live.endpoint()), format!("{}/bucket", spare.endpoint())];
    write_manifest(&places, folder.path(), keys)?;
    // The first pass makes the record of contents from the manifest.
    let (first, ..) = measured_pass(&places, folder.path(), keys, 0)?;
    println!("{keys} keys: a pass that also makes the record of contents takes {first:.1} s");
    let mut measured = Vec::new();
    for (page, changed) in [(None, changed), (Some(PAGE), &changed_after(changed))] {
        page.into_iter().for_each(|page| live.fail(Fault::Slow(page)));
        live.change(changed.iter().copied());
        // Before and after: whatever else runs on the machine is to hold up both alike.
        let before = list_alone(live.endpoint(), keys)?;
        let (wall, cpu, peak_mib) = measured_pass(&places, folder.path(), keys, changed.len())?;
        let listing = f64::midpoint(before, list_alone(live.endpoint(), keys)?);
        let written = spare.written();
        let right = changed.iter().all(|number| written.get(&key_of(*number)) == Some(&content_of(*number, true)));
        if !right {
            return Err(format!("of {} objects that were changed, some were not written", changed.len()).into());
        }
        measured.push(Measured { keys, changed: changed.len(), page, listing, wall, cpu, peak_mib });
    }
    Ok(measured)
}

/// Others, which have not been changed before.
fn changed_after(changed: &[u64]) -> Vec<u64> {
    changed.iter().map(|number| number + 1).collect()
}

fn write_manifest(places: &[String; 2], state: &Path, keys: u64) -> Outcome<()> {
    let [source, target] = [bucket(&places[0])?, bucket(&places[1])?];
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let mut writer = Writer::create(&state.join("manifest.next"), &pair)?;
    for number in 0..keys {
        let modified_ns = i128::from(MODIFIED_SECONDS) * 1_000_000_000;
        writer.push(&Row {
            key: key_of(number),
            source: SourceVersion { etag: Some(etag_of(number, false)), size: size_of(number), modified_ns },
            blake3: blake3::hash(&content_of(number, false)),
            target_etag: Some(etag_of(number, false)),
            beside: None,
            digest: None,
            racy: false,
        })?;
    }
    Ok(writer.finish(&manifest_path(state))?)
}

/// One pass in a process of its own: wall and CPU seconds, and the most memory it had.
fn measured_pass(places: &[String; 2], state: &Path, keys: u64, copied: usize) -> Outcome<(f64, f64, u64)> {
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%e %U %S %M"]).arg(std::env::current_exe()?).arg("pass").args(places).arg(state);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("{keys} {copied} {} 0 ", keys - copied as u64);
    if !output.status.success() || !counts.starts_with(&expected) {
        return Err(format!("the pass said {counts:?} instead of {expected:?}: {said}").into());
    }
    let figures: Vec<f64> =
        said.lines().last().unwrap_or_default().split(' ').map(str::parse).collect::<Result<_, _>>()?;
    match figures.as_slice() {
        [wall, user, system, kib] => Ok((*wall, user + system, *kib as u64 >> 10)),
        _ => Err(format!("no figures: {said}").into()),
    }
}

/// How long it takes to read the whole listing in equal ranges, and to do nothing with it.
fn list_alone(endpoint: &str, keys: u64) -> Outcome<f64> {
    let address = endpoint.strip_prefix("http://").ok_or("an endpoint is http://")?.to_owned();
    let begun = Instant::now();
    let readers = (0..READERS).map(|reader| {
        let (address, from, to) = (address.clone(), reader * keys / READERS, (reader + 1) * keys / READERS);
        std::thread::spawn(move || read_range(&address, from, to).map_err(|error| error.to_string()))
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.join().map_err(|_| "a reader panicked")??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn read_range(address: &str, mut from: u64, to: u64) -> Outcome<()> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut page = Vec::new();
    while from < to {
        let after = from.checked_sub(1).map(key_of).unwrap_or_default().replace('/', "%2F");
        let request =
            format!("GET /bucket?list-type=2&encoding-type=url&start-after={after} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        page.resize(length, 0);
        stream.read_exact(&mut page)?;
        from += 1_000;
    }
    Ok(())
}
