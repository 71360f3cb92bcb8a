//! keepalived, 2.2 or later: an address of one network, held by the host of the site whose gate is open.
//!
//! It is no balancer: it moves an address between two hosts, by VRRP. Both begin as BACKUP with the same priority and do not
//! preempt; what decides is the script, which asks the gate of the host's own site with curl: while it fails the host is in FAULT and
//! has no address, whatever the other one says. So a cut between the two hosts, after which each hears nobody, does not make two
//! masters as long as one gate is open. What it cannot promise is in the snippet: an address outlives a keepalived that hangs.
//!
//! Its intervals are whole seconds, which D has to be long enough for.

use core::net::IpAddr;
use std::time::Duration;

use super::{BalancerError, Outline};

/// The shortest D in which two checks fail one after the other, each after a wait of a second.
const DRAIN_MIN: Duration = Duration::from_secs(5);

/// The address that follows the gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floating {
    /// The address and the length of its network's prefix: `10.1.0.100/24`.
    pub address: String,
    /// The interface that gets it, the same name at both hosts.
    pub interface: String,
    /// The number of the VRRP group in this network: 1 to 255.
    pub router: u8,
}

impl Floating {
    /// From what a person names.
    ///
    /// # Errors
    /// When it cannot stand in a configuration file.
    pub fn new(address: &str, interface: &str, router: u8) -> Result<Self, BalancerError> {
        let word = |what, text: &str, why| BalancerError::Word { what, text: text.to_owned(), why };
        let is_network = |(host, length): (&str, &str)| match (host.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
            (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
            _ => false,
        };
        if !address.split_once('/').is_some_and(is_network) {
            return Err(word("address", address, "it is no address with the length of its prefix"));
        }
        // As the kernel takes it (IFNAMSIZ), without what means something in the file.
        let is_interface = (1..=15).contains(&interface.len())
            && interface.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte));
        if !is_interface {
            return Err(word("interface", interface, "it is no name of a network interface"));
        }
        if router == 0 {
            return Err(word("router", "0", "a group of VRRP is a number from 1 to 255"));
        }
        Ok(Floating { address: address.to_owned(), interface: interface.to_owned(), router })
    }
}

/// `keepalived.conf` of the host at `site`.
///
/// # Errors
/// When a site has not exactly one host with an address, or D is too short.
pub fn keepalived(outline: &Outline, floating: &Floating, site: &str) -> Result<String, BalancerError> {
    if outline.drain < DRAIN_MIN {
        return Err(BalancerError::DrainTooShort { drain: outline.drain, least: DRAIN_MIN });
    }
    let (mut ours, mut theirs) = (None, Vec::new());
    for behind in &outline.sites {
        let host = match behind.units.as_slice() {
            [unit] => unit.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
            _ => None,
        };
        let host = host.ok_or_else(|| BalancerError::Lacks {
            site: behind.site.clone(),
            lacks: "one unit, named by its address (keepalived runs on one host of each site)",
        })?;
        if behind.site == site {
            ours = Some((host, behind));
        } else {
            theirs.push(host);
        }
    }
    let Some((host, behind)) = ours else {
        return Err(BalancerError::Lacks { site: site.to_owned(), lacks: "unit" });
    };
    // As HAProxy's: a wait, a check that hangs, a wait, another one; all of it within D.
    let every = (outline.drain / 5).as_secs().max(1);
    let name = &outline.system;
    let peers: String = theirs.iter().map(|peer| format!("        {peer}\n")).collect();
    Ok(format!(
        "{head}{NOTE}\nglobal_defs {{\n    enable_script_security\n    script_user nobody\n}}\n\n\
         vrrp_script {name}_gate {{\n    \
         script \"/usr/bin/curl --fail --silent --output /dev/null --max-time {every} http://{gate}/live\"\n    \
         interval {every}\n    timeout {every}\n    fall 2\n    rise 2\n    init_fail\n}}\n\n\
         vrrp_instance {name} {{\n    state BACKUP\n    nopreempt\n    priority 100\n    interface {interface}\n    \
         virtual_router_id {router}\n    advert_int 1\n    unicast_src_ip {host}\n    unicast_peer {{\n{peers}    }}\n    \
         virtual_ipaddress {{\n        {address}\n    }}\n    track_script {{\n        {name}_gate\n    }}\n}}\n",
        head = outline.head(&format!("keepalived at {site}")),
        gate = behind.gate,
        interface = floating.interface,
        router = floating.router,
        address = floating.address,
    ))
}

/// What it cannot promise.
const NOTE: &str = "\
# This file is for the host of one site; print the other one's with --site. Both hosts are in one network (L2).
# An address only: it does not look at requests. A keepalived that hangs, or was killed, leaves its host the address, and while the
# link between the sites is cut nobody takes it away: then both hosts may answer for it. What refuses is the gate, asked by whoever
# serves: put a proxy that asks it (`warmspare gate config haproxy`, `nginx` or `caddy`) behind the address on both hosts.
# Maintenance changes nothing here: reads and writes have one address. Those proxies refuse the writes.
";
