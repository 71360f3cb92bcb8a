//! At the spare: the newest point opens with this site's identity, and a restore of it would be let in.

use std::collections::BTreeSet;

use super::finding::Findings;
use super::limit::{ANSWER_MAX, READING_MAX, within};
use super::site::{Secrets, database_key};
use super::vault::Seen;
use crate::capture::layout;
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::keys::Identity;
use crate::postgres::condition::{self, Locale};
use crate::postgres::inventory::Line;
use crate::postgres::properties::Properties;
use crate::postgres::quote::identifier;
use crate::postgres::refused;
use crate::postgres::roles::{self, Role};
use crate::postgres::{self, Server, access};
use crate::restore::{self, RestoreRequest};
use crate::store::Keys;
use crate::units::Bytes;
use crate::vault::{ListedPoint, SnapshotReader};

/// Opens every snapshot of the newest point, and asks the restore what it would refuse.
pub(super) async fn look(here: &Here, secrets: &Secrets, seen: &Seen, findings: &mut Findings) {
    let newest = seen.points.choose(None);
    let Some(point) = findings.value("points", format!("vault {}", seen.keys.name()), newest) else { return };
    // Why there is none was told with the keys.
    if let Ok(identity) = here.identity() {
        for (source, _, _) in &point.headers {
            decrypt(here, secrets, seen, point, source, &identity, findings).await;
        }
    }
    let object = format!("point {}", point.id);
    let request = RestoreRequest::default();
    let preview = within(READING_MAX, &object, restore::preview(here, &request)).await;
    if let Some(preview) = findings.value("restore", &object, preview) {
        for step in preview.steps {
            findings.ok("restore", step.step, format!("{} → {}", Bytes(step.bytes), step.place));
        }
    }
}

/// Test decryption: the epoch's secrets, the snapshot's body, and of a database the packs of its descriptions.
async fn decrypt(
    here: &Here,
    secrets: &Secrets,
    seen: &Seen,
    point: &ListedPoint,
    source: &SourceName,
    identity: &Identity,
    findings: &mut Findings,
) {
    let Some((_, id, header)) = point.headers.iter().find(|(name, _, _)| name == source) else { return };
    let object = format!("{source} of point {}", point.id);
    let opened = within(ANSWER_MAX, &object, seen.reader.open_snapshot(source, *id, header, identity)).await;
    let Some(snapshot) = findings.value("decryption", &object, opened) else { return };
    if source.kind != SourceKind::Database {
        findings.ok("decryption", object, "its secrets and its table of streams open with this site's identity");
        return;
    }
    let read = async {
        let (properties, roles) = (layout::properties(&snapshot).await?, layout::roles(&snapshot).await?);
        Ok::<_, Error>(Told { properties, roles, inventory: layout::inventory(&snapshot).await? })
    };
    let read = within(ANSWER_MAX, &object, read).await;
    let Some(told) = findings.value("decryption", &object, read) else { return };
    let streams = streams(&snapshot);
    findings.ok(
        "decryption",
        object,
        format!("opened with this site's identity; {streams} streams, three of them read"),
    );
    let asked = within(ANSWER_MAX, "the server", ask(here, secrets, source, &told)).await;
    // A server that cannot be asked was told before.
    if let Ok(Some(answer)) = asked {
        unprivileged(findings, &told, &answer);
        tell(findings, &told.properties, answer);
    }
}

/// What a point says of a database.
struct Told {
    properties: Properties,
    roles: Vec<Role>,
    inventory: Vec<Line>,
}

impl Told {
    /// The roles that own anything.
    fn owners(&self) -> Vec<String> {
        let lines = self.inventory.iter().filter(|line| line.kind.ends_with(" owner"));
        let owners: BTreeSet<&String> = lines.map(|line| &line.definition).chain([&self.properties.owner]).collect();
        owners.into_iter().cloned().collect()
    }
}

fn streams(snapshot: &SnapshotReader<Keys>) -> usize {
    crate::stream::Source::entries(snapshot).len()
}

/// What the spare's server says of a point's locale and roles.
struct Answer {
    object: String,
    locale: Locale,
    differing: Vec<String>,
    missing: Vec<String>,
    ours: String,
    superuser: bool,
    /// The owners for which ours may not act, that of the database to be replaced among them.
    not_to_act_for: Vec<String>,
}

async fn ask(
    here: &Here,
    secrets: &Secrets,
    source: &SourceName,
    told: &Told,
) -> Result<Option<Answer>, postgres::Error> {
    let Told { properties, roles: wanted, .. } = told;
    let Some(address) = here.site.databases.get(&source.name) else { return Ok(None) };
    let Some(password) = secrets.get(&database_key(&address.name)) else { return Ok(None) };
    let server = Server::new(address, password)?;
    let session = server.maintenance().await?;
    let names: Vec<String> = wanted.iter().map(|role| role.name.clone()).collect();
    let missing = condition::missing_roles(&session, &names).await?;
    let passwords = access::reads_passwords(&session).await?;
    let (found, ours) = (roles::needed(&session, &names, passwords).await?, condition::rights(&session).await?.role);
    let differs = |role: &Role| role.differs_from(found.iter().find(|other| other.name == role.name)?, passwords);
    // Our own has a password of its own at each site.
    let differing = wanted.iter().filter(|role| role.name != ours).filter_map(differs).collect();
    let locale = condition::locale(&session, properties).await?;
    let (superuser, mut owners) = (session.is_superuser(), told.owners());
    owners.extend(condition::owner(&session, server.database()).await?);
    let not_to_act_for = if superuser { Vec::new() } else { condition::not_to_act_for(&session, &owners).await? };
    session.close().await;
    let object = server.place(server.database()).to_string();
    Ok(Some(Answer { object, locale, differing, missing, ours, superuser, not_to_act_for }))
}

/// What a role that is no superuser will not be able to bring back.
fn unprivileged(findings: &mut Findings, told: &Told, answer: &Answer) {
    let Answer { object, ours, .. } = answer;
    for role in &answer.not_to_act_for {
        let found = format!("role {ours} may not act for role {role}, whose objects a restore must make or rename");
        let next =
            format!("As a role that administers {role} run: GRANT {} TO {};", identifier(role), identifier(ours));
        findings.failure("rights", object, found, next);
    }
    let kept = told.inventory.iter().filter(|line| !answer.superuser && refused::may_be_refused(line));
    let kept: Vec<String> = kept.map(|line| format!("{} {}", line.kind, line.name)).collect();
    if !kept.is_empty() {
        let found = format!("role {ours} is no superuser, and PostgreSQL lets only that one make: {}", kept.join(", "));
        let next = "A managed server may let its administrator make some of it. What it refuses, the restore does without, and its \
                    report names it.";
        findings.warning("rights", object, found, next);
    }
}

fn tell(findings: &mut Findings, properties: &Properties, answer: Answer) {
    let Answer { object, locale, differing, missing, .. } = answer;
    let name = properties.locale.as_ref().unwrap_or(&properties.collate);
    match locale {
        Locale::There => findings.ok("locale", &object, format!("has {name} ({})", properties.encoding)),
        Locale::Untried => {
            let next = format!("See that the server's host has it: locale -a | grep -i {name}");
            findings.warning("locale", &object, format!("{name} could not be tried"), next);
        }
        Locale::Missing(what) => {
            let next =
                format!("Install {name} on the server's host (Debian: dpkg-reconfigure locales) and restart it.");
            findings.failure("locale", &object, what, next);
        }
    }
    for role in differing {
        let next = "Nothing is changed by a restore; bring them in line by hand if they should be.";
        findings.warning("roles", &object, format!("{role}, compared with the point"), next);
    }
    if !missing.is_empty() {
        let found =
            format!("a restore makes {} of the point's roles, without login: {}", missing.len(), missing.join(", "));
        findings.ok("roles", object, found);
    }
}
