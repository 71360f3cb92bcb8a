//! A registry's database captured twice and restored with its proof, beside what people use today: `pg_dump -Fc`,
//! `pg_dump -Fd -j2 -Z zstd:3` (of PostgreSQL 16, which brings zstd), `pg_dump | restic backup --stdin`, `pg_restore -j2`.
//!
//! The database is made from a seed; between the two snapshots about 1 % of it is inserted, updated and deleted. The programs
//! take turns in one run on one server, so that a slow minute of the machine is everybody's; the medians are what counts.
//! GNU time measures each with all its children: the servers' own work is in the wall time, not in the CPU time. Set
//! `WARMSPARE_BENCH_ROUNDS` (5) and `WARMSPARE_BENCH_ROWS` (300,000 packages, about 600 MB) to make it smaller, and
//! `WARMSPARE_BENCH_BINARY` to measure another build than the one beside it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use warmspare::clock::SystemClock;
use warmspare::demo::cluster::{Cluster, ClusterOptions};
use warmspare::keygen;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Everything of a package is drawn from the hash of its number and the round it was last written in.
const SCHEMA: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, email text, created_at timestamptz NOT NULL);
CREATE TABLE packages (id bigint PRIMARY KEY, owner_id bigint NOT NULL REFERENCES accounts, ident text NOT NULL UNIQUE,
    checksum text NOT NULL, manifest text NOT NULL, deps text[] NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE audit (id bigint PRIMARY KEY, package_id bigint NOT NULL, operation text NOT NULL, requester text NOT NULL,
    at timestamptz NOT NULL);
CREATE TABLE links (package_id bigint NOT NULL REFERENCES packages ON DELETE CASCADE, channel text NOT NULL,
    PRIMARY KEY (package_id, channel));
CREATE INDEX packages_owner ON packages (owner_id);
CREATE INDEX audit_package ON audit (package_id, at);
CREATE FUNCTION dependency(n bigint, round bigint) RETURNS text LANGUAGE sql STABLE AS $$
SELECT 'origin' || n % 37 || '/package' || abs(hashint8extended(n, 1)) % 9001 || '/' || n % 7 || '.' || abs(hashint8extended(n, 2)) % 30
    || '/20' || 20 + n % 6 || lpad(abs(hashint8extended(n, round) % 10000000000)::text, 10, '0') $$;
CREATE FUNCTION package(n bigint, round bigint, accounts bigint) RETURNS packages LANGUAGE sql STABLE AS $$
SELECT n, 1 + n * 7919 % accounts, 'origin' || n % 500 || '/package' || n / 10 || '/1.' || n % 10 || '.' || round,
    md5(n || ' ' || round) || md5(round || ' ' || n),
    (SELECT string_agg('pkg_' || (ARRAY['deps','build_deps','exports','binds','svc_user','source','license','filename'])[1 + i]
        || '=' || CASE WHEN i < 3 THEN md5(n || ' ' || i || ' ' || round)
        ELSE dependency(n * 8 + i, round) || ' ' || dependency(n * 8 + i + 3, round) || ' ' || dependency(n * 31 + i, round)
        END, E'\\n' ORDER BY i) FROM generate_series(0, 7) i),
    ARRAY['origin' || n % 37 || '/package' || n % 9001, 'origin' || n % 41 || '/package' || n % 8009],
    timestamptz '2025-01-01 00:00Z' + n * interval '47 s' $$;
CREATE FUNCTION audit_entry(n bigint, packages bigint) RETURNS audit LANGUAGE sql STABLE AS $$
SELECT n, 1 + n * 104729 % packages, (ARRAY['upload','promote','demote','yank'])[1 + n % 4], 'account' || n * 31 % 5000,
    timestamptz '2025-01-01 00:00Z' + n * interval '11 s' $$;
";

struct Bench {
    folder: tempfile::TempDir,
    live: Cluster,
    spare: Cluster,
    /// Programs of PostgreSQL 15, and of 16.
    own: PathBuf,
    newer: PathBuf,
    rows: u64,
    results: BTreeMap<(&'static str, &'static str), Vec<Run>>,
}

/// One program's run.
#[derive(Clone, Copy, Debug)]
struct Run {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
    stored_mb: f64,
}

fn main() -> Outcome<()> {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |text| text.parse());
    let (rounds, rows) = (number("WARMSPARE_BENCH_ROUNDS", 5)?, number("WARMSPARE_BENCH_ROWS", 300_000)?);
    let mut bench = Bench::new(rows)?;
    println!("{rows} packages, {} in the database, {rounds} rounds; medians\n", bench.database_size()?);
    for round in 1..=rounds {
        bench.round(round)?;
        eprintln!("round {round} of {rounds} is done");
    }
    bench.print();
    Ok(())
}

impl Bench {
    fn new(rows: u64) -> Outcome<Bench> {
        let newer = PathBuf::from(
            std::env::var("WARMSPARE_BENCH_PG16").map_err(|_| "WARMSPARE_BENCH_PG16 is not set: make bench sets it")?,
        );
        let folder = tempfile::Builder::new().prefix("warmspare-bench-").tempdir()?;
        // The server's user has to get in.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let start = |name: &str| {
            let settings = ["fsync=off", "autovacuum=off", "shared_buffers=256MB", "max_wal_size=4GB"];
            let settings = settings.map(str::to_owned).to_vec();
            Cluster::start(&ClusterOptions { folder: folder.path().join(name), settings, ..ClusterOptions::default() })
        };
        let (live, spare) = (start("live")?, start("spare")?);
        let own = PathBuf::from("/usr/lib/postgresql/15/bin");
        let bench = Bench { folder, live, spare, own, newer, rows, results: BTreeMap::new() };
        bench.configure()?;
        bench.sql(&bench.live, "postgres", "CREATE DATABASE registry")?;
        bench.sql(&bench.live, "registry", SCHEMA)?;
        bench.fill()?;
        Ok(bench)
    }

    fn configure(&self) -> Outcome<()> {
        let path = self.folder.path();
        let escrow = keygen::escrow(&path.join("escrow.txt"), &SystemClock)?;
        let (mut signers, mut sections) = (Vec::new(), String::new());
        for (site, cluster) in [("ams", &self.live), ("fra", &self.spare)] {
            let keys = keygen::site(site, &path.join(format!("{site}-keys")))?;
            signers.push(format!("{site} = \"{}\"", keys.verifying_key));
            sections += &format!(
                "\n[sites.{site}]\nstate = \"{base}/{site}\"\nrecipient = \"{}\"\nidentity = \"file:{}\"\n\
                 signing_key = \"file:{}\"\ndatabases.registry = {{ url = \"{}\", password = \"file:{}\" }}\n",
                keys.recipient,
                keys.identity_file.display(),
                keys.signing_key_file.display(),
                cluster.url("registry"),
                cluster.password_file().display(),
                base = path.display(),
            );
        }
        let text = format!(
            "system = \"registry\"\nlive = \"ams\"\nvault = {{ url = \"{}\", escrow = [\"{}\"], signers = {{ {} }} }}\n{sections}",
            path.join("vault").display(),
            escrow.recipient,
            signers.join(", "),
        );
        Ok(fs::write(path.join("warmspare.toml"), text)?)
    }

    fn fill(&self) -> Outcome<()> {
        let (rows, accounts) = (self.rows, self.rows / 6);
        self.sql(&self.live, "registry", &format!(
            "INSERT INTO accounts SELECT n, 'account' || n, md5(n::text) || '@example.org', '2024-01-01Z'::timestamptz + n * interval '1 min'
                FROM generate_series(1, {accounts}) n;
             INSERT INTO packages SELECT new.* FROM generate_series(1, {rows}) n, package(n, 0, {accounts}) new;
             INSERT INTO audit SELECT new.* FROM generate_series(1, 4 * {rows}) n, audit_entry(n, {rows}) new;
             INSERT INTO links SELECT n, 'unstable' FROM generate_series(1, {rows}) n;
             VACUUM ANALYZE"
        ))
    }

    /// Changes about 1 % of the rows, scattered, and adds as many.
    fn churn(&self, round: u64) -> Outcome<()> {
        let (rows, accounts) = (self.rows, self.rows / 6);
        self.sql(&self.live, "registry", &format!(
            "UPDATE packages p SET (ident, checksum, manifest) = (SELECT q.ident, q.checksum, q.manifest FROM package(p.id, {round}, {accounts}) q)
                WHERE hashint8extended(id, {round}) % 200 = 0;
             DELETE FROM packages WHERE hashint8extended(id, {round}) % 1000 = 1;
             INSERT INTO packages SELECT new.* FROM (SELECT max(id) AS m FROM packages) last,
                generate_series(1, {rows} / 200) n, package(m + n, {round}, {accounts}) new;
             INSERT INTO audit SELECT new.* FROM (SELECT max(id) AS m FROM audit) last,
                generate_series(1, {rows} / 25) n, audit_entry(m + n, {rows}) new;
             INSERT INTO links SELECT id, 'stable' FROM packages WHERE hashint8extended(id, {round}) % 100 = 3 ON CONFLICT DO NOTHING"
        ))
    }

    fn round(&mut self, round: u64) -> Outcome<()> {
        let path = self.folder.path().to_owned();
        for stale in ["vault", "ams/vault", "restic", "cache", "fd", "fc"] {
            remove(&path.join(stale))?;
        }
        fs::create_dir(path.join("vault"))?;
        self.restic("init --quiet")?;
        let fresh = [("warmspare", self.warmspare("ams", "capture")?), ("pg_dump | restic", self.dump_to_restic())];
        let dumps = [
            ("pg_dump -Fd -j2 -Z zstd:3", self.dump(&self.newer, "-Fd -j2 -Z zstd:3", "fd")),
            ("pg_dump -Fc", self.dump(&self.own, "-Fc", "fc")),
        ];
        let folders = BTreeMap::from([("warmspare", "vault"), ("pg_dump | restic", "restic")]);
        let mut all: Vec<(&'static str, String, &'static str)> = Vec::new();
        for ((name, command), (peer, dump)) in fresh.iter().zip(dumps) {
            all.push((name, command.clone(), folders[name]));
            all.push((peer, dump, if peer.contains("-Fd") { "fd" } else { "fc" }));
        }
        // Nobody always goes first, into the coldest cache.
        all.rotate_left(usize::try_from(round)? % 4);
        for (name, command, folder) in &all {
            self.measure("first snapshot", name, command, Some(&path.join(folder)))?;
        }
        self.churn(round)?;
        for (name, command) in &fresh {
            self.measure("second snapshot, 1 % changed", name, command, Some(&path.join(folders[name])))?;
        }
        remove(&path.join("fd"))?;
        let dump = self.dump(&self.newer, "-Fd -j2 -Z zstd:3", "fd");
        self.measure("second snapshot, 1 % changed", "pg_dump -Fd -j2 -Z zstd:3", &dump, Some(&path.join("fd")))?;
        self.restores(&path)
    }

    fn restores(&mut self, path: &Path) -> Outcome<()> {
        self.empty_spare()?;
        remove(&path.join("fra"))?;
        let restore = self.warmspare("fra", "restore")?;
        self.measure("restore", "warmspare, with its proof", &restore, None)?;
        self.empty_spare()?;
        self.sql(&self.spare, "postgres", "CREATE DATABASE registry TEMPLATE template0")?;
        let peer = format!(
            "PGPASSFILE=/nonexistent PGPASSWORD=$(cat {}) {}/pg_restore --exit-on-error -j2 --dbname '{}' {}/fd",
            self.spare.password_file().display(),
            self.newer.display(),
            self.spare.url("registry"),
            path.display()
        );
        self.measure("restore", "pg_restore -j2, without one", &peer, None)
    }

    fn empty_spare(&self) -> Outcome<()> {
        let names = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')";
        for name in self.query(&self.spare, names)?.lines() {
            self.sql(&self.spare, "postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"))?;
        }
        self.sql(&self.spare, "postgres", "CHECKPOINT")
    }

    fn warmspare(&self, site: &str, command: &str) -> Outcome<String> {
        let built = env!("CARGO_BIN_EXE_warmspare");
        let binary = fs::canonicalize(std::env::var("WARMSPARE_BENCH_BINARY").unwrap_or_else(|_| built.to_owned()))?;
        let configuration = self.folder.path().join("warmspare.toml");
        Ok(format!("WARMSPARE_CONFIG={} WARMSPARE_SITE={site} {} {command}", configuration.display(), binary.display()))
    }

    fn dump(&self, programs: &Path, how: &str, to: &str) -> String {
        let to = self.folder.path().join(to);
        format!("{} {how} --file {}", self.pg_dump(programs), to.display())
    }

    fn pg_dump(&self, programs: &Path) -> String {
        let password = self.live.password_file();
        format!(
            "PGPASSWORD=$(cat {}) {}/pg_dump --dbname '{}'",
            password.display(),
            programs.display(),
            self.live.url("registry")
        )
    }

    fn dump_to_restic(&self) -> String {
        format!("{} | {} backup --quiet --stdin", self.pg_dump(&self.own), self.restic_program())
    }

    fn restic_program(&self) -> String {
        let path = self.folder.path().display();
        format!("RESTIC_PASSWORD=bench restic --repo {path}/restic --cache-dir {path}/cache")
    }

    fn restic(&self, arguments: &str) -> Outcome<()> {
        run(Command::new("sh").args(["-ec", &format!("{} {arguments}", self.restic_program())]))
    }

    /// Runs a shell command under GNU time, and weighs what it added to the folder.
    fn measure(&mut self, part: &'static str, name: &'static str, command: &str, folder: Option<&Path>) -> Outcome<()> {
        let before = folder.map_or(Ok(0), size)?;
        let times = self.folder.path().join("times");
        let mut timed = Command::new("time");
        timed.args(["--format", "%e %U %S %M", "--output"]).arg(&times).args([
            "bash",
            "-ec",
            &format!("set -o pipefail; {command}"),
        ]);
        run(&mut timed)?;
        let times = fs::read_to_string(times)?;
        let figures: Vec<f64> = times.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [wall, user, system, peak] = figures[..] else { return Err(format!("GNU time said {times}").into()) };
        let stored_mb = (folder.map_or(Ok(0), size)? - before) as f64 / 1e6;
        self.results.entry((part, name)).or_default().push(Run {
            wall,
            cpu: user + system,
            peak_mib: peak / 1024.0,
            stored_mb,
        });
        Ok(())
    }

    fn sql(&self, cluster: &Cluster, database: &str, sql: &str) -> Outcome<()> {
        self.psql(cluster, database, sql).map(drop)
    }

    fn query(&self, cluster: &Cluster, sql: &str) -> Outcome<String> {
        self.psql(cluster, "postgres", sql)
    }

    fn psql(&self, cluster: &Cluster, database: &str, sql: &str) -> Outcome<String> {
        let mut psql = Command::new(self.own.join("psql"));
        psql.env("PGPASSWORD", fs::read_to_string(cluster.password_file())?.trim());
        psql.args(["-XAtq", "--set", "ON_ERROR_STOP=1", "--dbname", &cluster.url(database)]);
        // One statement at a time, as VACUUM and CREATE DATABASE want it.
        let script = self.folder.path().join("script.sql");
        fs::write(&script, sql)?;
        let output = psql.arg("--file").arg(script).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn database_size(&self) -> Outcome<String> {
        Ok(self.query(&self.live, "SELECT pg_size_pretty(pg_database_size('registry'))")?.trim().to_owned())
    }

    fn print(&self) {
        let mut last = "";
        for ((part, name), runs) in &self.results {
            if *part != last {
                println!(
                    "{:<44}{:>9}{:>9}{:>10}{:>12}",
                    part.to_uppercase(),
                    "WALL s",
                    "CPU s",
                    "PEAK MiB",
                    "STORED MB"
                );
                last = part;
            }
            let median = |of: fn(&Run) -> f64| {
                let mut values: Vec<f64> = runs.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            println!(
                "{name:<44}{:>9.2}{:>9.2}{:>10.0}{:>12.1}",
                median(|run| run.wall),
                median(|run| run.cpu),
                median(|run| run.peak_mib),
                median(|run| run.stored_mb)
            );
        }
    }
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// The bytes of all files below `path`, which may be one; nothing where there is nothing.
fn size(path: &Path) -> Outcome<u64> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(0) };
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

fn remove(path: &Path) -> Outcome<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if metadata.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
    }
}
