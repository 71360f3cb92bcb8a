//! The clear records of the vault as they were read at the last look.
//!
//! A record is written once, so one that is listed as it was is not read again: a site that watches lists a few folders every few minutes,
//! and reads hundreds of objects only when a point, a proof or a removal is new. What could not be believed is read again every time, and so is what
//! each site says of itself, which is overwritten.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::freshness::{PointFacts, VaultFacts};
use super::gather::unread;
use crate::config::{Config, Here, SourceKind};
use crate::error::Error;
use crate::point;
use crate::store::{Keys, ListedKey, Read};
use crate::vault::layout::{self, Layout};
use crate::vault::v1::ProofRecord;
use crate::vault::{ListedPoint, VaultReader};

/// What was read, and of which listing, by which configuration.
#[derive(Default)]
pub struct Records(Option<Known>);

struct Known {
    config: Arc<Config>,
    listed: Vec<ListedKey>,
    facts: VaultFacts,
}

impl Records {
    /// What the vault says now.
    pub(super) async fn look(&mut self, here: &Here) -> Result<VaultFacts, Error> {
        let (keys, reader) = point::open_vault(here).await?;
        // Before anything is read: what is added meanwhile is seen the next time.
        let listed = listed(&keys, &Layout::new(&here.config.system)).await?;
        let is_as_it_was = |known: &Known| Arc::ptr_eq(&known.config, &here.config) && known.listed == listed;
        let known = self.0.take().filter(|known| is_as_it_was(known) && known.facts.damaged.is_empty());
        let mut facts = match known {
            Some(known) => known.facts,
            None => read(here, &reader).await?,
        };
        for site in [&here.site.name, &here.other.name] {
            let said = reader.peek_status(site, &here.vault_state()).await;
            facts.statuses.insert(site.clone(), said.map_err(|error| unread(&error.into())));
        }
        self.0 = Some(Known { config: Arc::clone(&here.config), listed, facts: facts.clone() });
        Ok(facts)
    }
}

/// Everything that decides which points there are and what was proven of them.
async fn listed(keys: &Keys, layout: &Layout) -> Result<Vec<ListedKey>, Error> {
    let mut listed = Vec::new();
    for folder in [layout.points(), layout.proofs(), layout.snapshots(), layout::GC.to_owned()] {
        listed.extend(keys.list(&folder).await?);
    }
    Ok(listed)
}

async fn read(here: &Here, reader: &VaultReader<Keys>) -> Result<VaultFacts, Error> {
    let found = point::peek(here, reader).await?;
    let proofs = |point: &ListedPoint| found.proofs.get(&point.id).cloned().unwrap_or_default();
    Ok(VaultFacts {
        points: found.listing.points.iter().map(|point| facts(point, proofs(point))).collect(),
        damaged: found.listing.damaged.iter().map(|damaged| damaged.key.clone()).collect(),
        statuses: BTreeMap::new(),
    })
}

fn facts(point: &ListedPoint, proofs: Vec<ProofRecord>) -> PointFacts {
    let databases = point.headers.iter().filter(|(source, _, _)| source.kind == SourceKind::Database);
    let buckets = || point.headers.iter().filter(|(source, _, _)| source.kind == SourceKind::Bucket);
    // What another release wrote differently is not known.
    let mirrored = |facts: &serde_json::Value| serde_json::from_value(facts.clone()).unwrap_or_default();
    PointFacts {
        id: point.id,
        captured_at: point.record.captured_at,
        writer: point.record.writer.clone(),
        closure: point.record.closure.verdict.clone(),
        sources: point.headers.iter().map(|(source, _, _)| source.clone()).collect(),
        databases: databases.map(|(source, _, header)| (source.name.clone(), header.facts.clone())).collect(),
        buckets: buckets().map(|(source, _, header)| (source.clone(), mirrored(&header.facts))).collect(),
        followed: buckets()
            .filter_map(|(source, _, header)| Some((source.clone(), point::followed(&header.facts)?)))
            .collect(),
        rows_since: None,
        objects_since: None,
        proofs,
    }
}
