//! The same work done by each program in turn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use warmspare::store::{Attributes, Bucket, Listed};

use crate::ceph::{CREDENTIALS, Ceph};
use crate::{Outcome, bucket, number};

const SMALL_BYTES: usize = 16 << 10;
const TINY_BYTES: usize = 16;
const LARGE: u64 = 20;
const LARGE_BYTES: usize = 64 << 20;
const RENAMED: u64 = 1_000;
const WRITERS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Warmspare,
    Rclone,
    RcloneChecksum,
    S5cmd,
    Aws,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Warmspare => "warmspare",
            Program::Rclone => "`rclone sync --transfers 32 --checkers 32 --fast-list`",
            Program::RcloneChecksum => "the same with `--checksum`",
            Program::S5cmd => "`s5cmd sync`, through a disk",
            Program::Aws => "`aws s3 sync`, through a disk",
        }
    }

    /// The programs of this machine.
    fn found() -> Vec<Program> {
        let is_there = |program: &str| {
            let run = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            run.is_ok()
        };
        let all = [
            (Program::Warmspare, ""),
            (Program::Rclone, "rclone"),
            (Program::RcloneChecksum, "rclone"),
            (Program::S5cmd, "s5cmd"),
            (Program::Aws, "aws"),
        ];
        let (found, lacking): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, name)| name.is_empty() || is_there(name));
        lacking.iter().for_each(|(program, name)| println!("{} is left out: there is no {name} here", program.name()));
        found.into_iter().map(|(program, _)| program).collect()
    }
}

/// One program's run.
#[derive(Clone, Copy, Debug)]
struct Run {
    wall: f64,
    cpu: f64,
    server_cpu: f64,
    peak_mib: f64,
    /// The bytes of objects that are newer at the spare than the run, whoever copied them; of ours those that were sent. The servers'
    /// clock decides: what is written in its first second may be missed.
    sent_mb: f64,
}

struct Bench {
    live: Arc<Ceph>,
    spare: Arc<Ceph>,
    folder: tempfile::TempDir,
    programs: Vec<Program>,
    runtime: tokio::runtime::Runtime,
}

/// Has the servers run, for passes by hand.
pub fn serve(objects: u64, bytes: usize) -> Outcome<()> {
    let bench = Bench::start()?;
    let live = bench.live.bucket();
    bench.fill(&bucket(&format!("{}/{live}", bench.live.endpoint()))?, 0..objects, bytes, 0)?;
    for _ in 0..20 {
        println!("pass {}/{live} {}/{}", bench.live.endpoint(), bench.spare.endpoint(), bench.spare.bucket());
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

pub fn run() -> Outcome<()> {
    let (objects, keys) = (number("WARMSPARE_BENCH_OBJECTS", 10_000)?, number("WARMSPARE_BENCH_KEYS", 100_000)?);
    let bench = Bench::start()?;
    bench.small(objects)?;
    bench.large()?;
    bench.many(keys)
}

impl Bench {
    fn start() -> Outcome<Bench> {
        Ok(Bench {
            live: Ceph::newest(),
            spare: Ceph::another_newest(),
            folder: tempfile::tempdir()?,
            programs: Program::found(),
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        })
    }

    fn small(&self, objects: u64) -> Outcome<()> {
        let live = self.live.bucket();
        let source = bucket(&format!("{}/{live}", self.live.endpoint()))?;
        self.fill(&source, 0..objects, SMALL_BYTES, 0)?;
        let spares = self.spares();
        self.all(&format!("first copy of {objects} × 16 KiB"), &live, &spares)?;
        self.all("no change", &live, &spares)?;
        self.fill(&source, (0..objects).step_by(100), SMALL_BYTES, 1)?;
        self.all("1 % changed", &live, &spares)?;
        for number in 0..RENAMED.min(objects) {
            self.live.plain_delete(&live, &key(number));
        }
        self.fill_as(&source, 0..RENAMED.min(objects), |number| {
            (format!("renamed/{}", key(number)), content(number, 0, SMALL_BYTES))
        })?;
        self.all(&format!("{RENAMED} renamed"), &live, &spares)
    }

    fn large(&self) -> Outcome<()> {
        let live = self.live.bucket();
        let source = bucket(&format!("{}/{live}", self.live.endpoint()))?;
        self.fill(&source, 0..LARGE, LARGE_BYTES, 0)?;
        self.all(&format!("first copy of {LARGE} × 64 MiB"), &live, &self.spares())
    }

    /// All against one copy: making one for each would take longer than everything else. So would the copy on a disk that s5cmd and aws
    /// have between: it is written here.
    fn many(&self, keys: u64) -> Outcome<()> {
        let (live, spare) = (self.live.bucket(), self.spare.bucket());
        let source = bucket(&format!("{}/{live}", self.live.endpoint()))?;
        self.fill(&source, 0..keys, TINY_BYTES, 0)?;
        for program in self.programs.iter().filter(|program| matches!(program, Program::S5cmd | Program::Aws)) {
            self.fill_disk(*program, &live, keys)?;
        }
        let first = self.measured(Program::Warmspare, &live, &spare)?;
        println!("\nfirst copy of {keys} × 16 B by warmspare: {:.1} s", first.wall);
        let spares = self.programs.iter().map(|program| (*program, spare.clone())).collect();
        // What a program remembers of its own copy it has to have seen once.
        self.all(&format!("no change among {keys} keys, the first time"), &live, &spares)?;
        self.all(&format!("no change among {keys} keys"), &live, &spares)
    }

    /// The files that `program` would have fetched. To s5cmd a file is as its object when it is not older, to aws when it is not newer;
    /// both upload one that is newer than the object at the spare, which is written after this.
    fn fill_disk(&self, program: Program, live: &str, keys: u64) -> Outcome<()> {
        let disk = self.path(program, live);
        for number in 0..keys {
            let path = disk.join(key(number));
            std::fs::create_dir_all(path.parent().ok_or("a key is in a folder")?)?;
            let mut file = std::fs::File::create(&path)?;
            file.write_all(&content(number, 0, TINY_BYTES))?;
            if program == Program::Aws {
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
            }
        }
        Ok(())
    }

    fn spares(&self) -> BTreeMap<Program, String> {
        self.programs.iter().map(|program| (*program, self.spare.bucket())).collect()
    }

    fn all(&self, what: &str, live: &str, spares: &BTreeMap<Program, String>) -> Outcome<()> {
        let mut table = format!(
            "\n| {what} | wall s | client CPU s | servers' CPU s | peak MiB | MB written anew |\n|---|---|---|---|---|---|\n"
        );
        for (program, spare) in spares {
            let Run { wall, cpu, server_cpu, peak_mib, sent_mb } = self.measured(*program, live, spare)?;
            writeln!(
                table,
                "| {} | {wall:.2} | {cpu:.2} | {server_cpu:.1} | {peak_mib:.0} | {sent_mb:.1} |",
                program.name()
            )?;
        }
        println!("{table}");
        Ok(())
    }

    fn measured(&self, program: Program, live: &str, spare: &str) -> Outcome<Run> {
        let begun = Timestamp::now();
        let servers = self.live.cpu_seconds() + self.spare.cpu_seconds();
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%e %U %S %M"]);
        self.words(program, live, spare, &mut command)?;
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(format!("{}: {said}", program.name()).into());
        }
        let server_cpu = self.live.cpu_seconds() + self.spare.cpu_seconds() - servers;
        let last = said.lines().last().unwrap_or_default();
        let figures: Vec<f64> = last.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [wall, user, system, kib] = figures[..] else { return Err(format!("no figures: {said}").into()) };
        let sent = match program {
            Program::Warmspare => {
                String::from_utf8_lossy(&output.stdout).trim().rsplit(' ').next().unwrap_or("0").parse()?
            }
            _ => self.written_since(spare, begun)?,
        };
        Ok(Run { wall, cpu: user + system, server_cpu, peak_mib: kib / 1024.0, sent_mb: sent as f64 / 1e6 })
    }

    fn words(&self, program: Program, live: &str, spare: &str, command: &mut Command) -> Outcome<()> {
        let (from, to) = (self.live.endpoint(), self.spare.endpoint());
        let disk = self.path(program, live);
        let (access, secret) = CREDENTIALS.split_once(':').ok_or("credentials")?;
        let keys =
            [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_DEFAULT_REGION", "us-east-1")];
        command.envs(keys).env_remove("AWS_CA_BUNDLE").env("AWS_EC2_METADATA_DISABLED", "true");
        for (name, endpoint) in [("LIVE", from), ("SPARE", to)] {
            let set = |key: &str| format!("RCLONE_CONFIG_{name}_{key}");
            command.env(set("TYPE"), "s3").env(set("PROVIDER"), "Ceph").env(set("ENDPOINT"), endpoint);
            command.env(set("ACCESS_KEY_ID"), access).env(set("SECRET_ACCESS_KEY"), secret);
        }
        match program {
            Program::Warmspare => {
                let own = std::env::current_exe()?;
                command
                    .arg(own)
                    .arg("pass")
                    .arg(format!("{from}/{live}"))
                    .arg(format!("{to}/{spare}"))
                    .arg(self.state(live));
            }
            Program::Rclone | Program::RcloneChecksum => {
                command.args(["rclone", "sync", "--transfers", "32", "--checkers", "32", "--fast-list"]);
                command.args((program == Program::RcloneChecksum).then_some("--checksum"));
                command.arg(format!("live:{live}")).arg(format!("spare:{spare}"));
            }
            Program::S5cmd => {
                let script = "s5cmd --log error --endpoint-url $1 sync --delete \"s3://$2/*\" $3/ && s5cmd --log error --endpoint-url $4 sync --delete $3/ s3://$5/";
                command.args(["sh", "-c", script, "sync", from, live]).arg(&disk).args([to, spare]);
            }
            Program::Aws => {
                let script = "aws --endpoint-url $1 s3 sync --delete --only-show-errors s3://$2 $3 && aws --endpoint-url $4 s3 sync --delete --only-show-errors $3 s3://$5";
                command.args(["sh", "-c", script, "sync", from, live]).arg(&disk).args([to, spare]);
            }
        }
        Ok(())
    }

    fn state(&self, live: &str) -> PathBuf {
        self.path(Program::Warmspare, live)
    }

    fn path(&self, program: Program, live: &str) -> PathBuf {
        let path: &Path = self.folder.path();
        path.join(format!("{program:?}-{live}"))
    }

    /// The bytes of the objects that are newer.
    fn written_since(&self, spare: &str, since: Timestamp) -> Outcome<u64> {
        let since = since.as_nanosecond();
        let listing = bucket(&format!("{}/{spare}", self.spare.endpoint()))?.list(None);
        let sizes = listing.try_fold(0, |sum, listed| async move {
            Ok(match listed {
                Listed::Object { version, .. } if version.modified_ns >= since => sum + version.size,
                _ => sum,
            })
        });
        Ok(self.runtime.block_on(sizes)?)
    }

    fn fill(&self, target: &Bucket, numbers: impl Iterator<Item = u64>, bytes: usize, round: u64) -> Outcome<()> {
        self.fill_as(target, numbers, |number| (key(number), content(number, round, bytes)))
    }

    fn fill_as(
        &self,
        target: &Bucket,
        numbers: impl Iterator<Item = u64>,
        object: impl Fn(u64) -> (String, Bytes),
    ) -> Outcome<()> {
        let writes = stream::iter(numbers).map(|number| {
            let (key, content) = object(number);
            async move {
                let size = content.len() as u64;
                let body = stream::once(async move { Ok(content) }).boxed();
                target.write(&key, &Attributes::default(), size, body).await.map(drop)
            }
        });
        Ok(self.runtime.block_on(writes.buffer_unordered(WRITERS).try_collect::<()>())?)
    }
}

fn key(number: u64) -> String {
    format!("origin-{}/package-{number:06}.hart", number % 50)
}

fn content(number: u64, round: u64, bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_le_bytes()).update(&round.to_le_bytes()).finalize_xof().fill(&mut content);
    content.into()
}
