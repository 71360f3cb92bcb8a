//! What a load balancer must be told, so that the gates of both sites decide where traffic goes: snippets of its own configuration.
//!
//! The gate answers for its site, a unit for itself; a unit takes traffic only while both say so. A gate that does not answer is
//! closed. Whoever is connected to a site whose gate closes is cut off, kept-alive or not.
//!
//! While maintenance is on the gate says no to `/writes` alone. Where HTTP is spoken, what is no read passes only while it says yes,
//! and is answered 503 otherwise. What passes TCP through sees no methods, and goes on.
//!
//! Pure: text out of an outline. Each snippet is tested with the real program before two sites (tests/balancer.rs).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Class, Explain};

mod caddy;
mod haproxy;
mod keepalived;
mod nginx;

pub use caddy::caddy;
pub use haproxy::haproxy;
pub use keepalived::{Floating, keepalived};
pub use nginx::nginx;

/// The methods that only read: HTTP calls them safe (RFC 9110, 9.2.1). TRACE is none of a service's.
const READS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// What a client reads whose write is refused.
const NO_WRITES: &str = "writes are refused for now: maintenance, or no site is live";

/// What there is behind the load balancer.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The system.
    pub system: String,
    /// Each site: its name, its gate as the balancer reaches it, and the hosts of its units.
    pub sites: Vec<Behind>,
    /// The ports of the service.
    pub ports: Vec<Port>,
    /// D: within this time of a gate's closing the last connection must be gone.
    pub drain: Duration,
}

/// One site, seen from the load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Its name.
    pub site: String,
    /// Its gate, `HOST:PORT`.
    pub gate: String,
    /// The hosts of its units.
    pub units: Vec<String>,
}

/// One port of the service: where the balancer listens, where the units do, and what is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Where the balancer listens.
    pub listen: u16,
    /// Where the units do.
    pub unit: u16,
    /// What is spoken.
    pub speaks: Speaks,
}

/// What is spoken at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP; a unit is well while it answers this path with 200.
    Http(String),
    /// Anything, TLS included, which is passed through; a unit is well while it takes connections.
    Tcp,
}

/// Why there is no snippet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalancerError {
    /// A word of the outline cannot stand in a configuration file.
    #[error("{what} `{text}` cannot be used: {why}")]
    Word {
        /// What it is.
        what: &'static str,
        /// The word.
        text: String,
        /// Why not.
        why: &'static str,
    },
    /// A site lacks something.
    #[error("{site} has no {lacks}")]
    Lacks {
        /// The site.
        site: String,
        /// What.
        lacks: &'static str,
    },
    /// Two ports want the same.
    #[error("port {port} is there twice")]
    Twice {
        /// The port.
        port: u16,
    },
    /// Whole seconds do not fit into it.
    #[error("keepalived checks in whole seconds, and two checks do not fit into D, which is {drain:?}")]
    DrainTooShort {
        /// D.
        drain: Duration,
        /// The shortest that will do.
        least: Duration,
    },
    /// This program cannot do it.
    #[error("{program} cannot ask a gate before it passes TCP through (port {port})")]
    NoTcp {
        /// The program.
        program: &'static str,
        /// The port.
        port: u16,
    },
}

impl Explain for BalancerError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            BalancerError::Word { what: "port", .. } => {
                "Write --port 443:tcp, --port 80:http:/health, or with another port at the units --port 80=8080:http:/health.".to_owned()
            }
            BalancerError::Word { what: "address" | "interface" | "router", .. } => {
                "Write --address 10.1.0.100/24 --interface eth0, and --router with a number that no other group of the network has."
                    .to_owned()
            }
            BalancerError::DrainTooShort { least, .. } => {
                format!("Make `drain` under [witness] at least {least:?}; `ttl` has to be longer with it.")
            }
            BalancerError::Lacks { lacks: "gate", site } => format!(
                "Write under [sites.{site}] where load balancers reach its gate: gate = {{ listen = \"0.0.0.0:7777\", url = \
                 \"http://10.1.0.2:7777\" }}, or name it: --gate {site}=10.1.0.2:7777."
            ),
            BalancerError::Word { .. } | BalancerError::Lacks { .. } => {
                "Name each site's gate and units: --gate ams=10.1.0.2:7777 --unit ams=10.1.0.11, and the same for the other one.".to_owned()
            }
            BalancerError::Twice { .. } => "Name each port once.".to_owned(),
            BalancerError::NoTcp { program, .. } => format!(
                "Use HAProxy for it (`warmspare gate config haproxy`), or end TLS at {program} and name the port as http."
            ),
        })
    }
}

impl FromStr for Port {
    type Err = BalancerError;

    /// `443:tcp`, `80:http:/health`, `80=8080:http:/health`.
    fn from_str(text: &str) -> Result<Self, BalancerError> {
        let wrong = |why| BalancerError::Word { what: "port", text: text.to_owned(), why };
        let (ports, speaks) = text.split_once(':').ok_or_else(|| wrong("it does not say what is spoken"))?;
        let (listen, unit) = ports.split_once('=').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (Some(listen), Some(unit)) = (port(listen), port(unit)) else {
            return Err(wrong("a port is a number from 1 to 65535"));
        };
        let speaks = match speaks.split_once(':') {
            Some(("http", path)) if is_path(path) => Speaks::Http(path.to_owned()),
            None if speaks == "tcp" => Speaks::Tcp,
            _ => return Err(wrong("it is neither `tcp` nor `http:` and the path of a unit's health check")),
        };
        Ok(Port { listen, unit, speaks })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { listen, unit, speaks } = self;
        match speaks {
            Speaks::Http(path) => write!(f, "{listen}={unit}:http:{path}"),
            Speaks::Tcp => write!(f, "{listen}={unit}:tcp"),
        }
    }
}

impl Outline {
    /// The outline of `system` from what a person names: `SITE=HOST:PORT` of gates, `SITE=HOST` of units.
    ///
    /// # Errors
    /// When something is missing, twice, or cannot stand in a configuration file.
    pub fn new(
        (system, sites): (&str, &[&str]),
        gates: &[String],
        units: &[String],
        ports: &[Port],
        drain: Duration,
    ) -> Result<Self, BalancerError> {
        let mut behind: Vec<Behind> = sites
            .iter()
            .map(|site| Behind { site: (*site).to_owned(), gate: String::new(), units: Vec::new() })
            .collect();
        for text in gates {
            let (site, gate) = of_site("gate", text, &mut behind)?;
            let is_gate =
                gate.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
            if !is_gate {
                return Err(word("gate", text, "it is no HOST:PORT"));
            }
            gate.clone_into(&mut site.gate);
        }
        for text in units {
            let (site, unit) = of_site("unit", text, &mut behind)?;
            if !is_host(unit) {
                return Err(word("unit", text, "it is no host; ports are named with --port"));
            }
            site.units.push(unit.to_owned());
        }
        for site in &behind {
            let lacks = if site.gate.is_empty() { Some("gate") } else { site.units.is_empty().then_some("unit") };
            if let Some(lacks) = lacks {
                return Err(BalancerError::Lacks { site: site.site.clone(), lacks });
            }
        }
        if let Some(port) = ports
            .iter()
            .enumerate()
            .find_map(|(number, port)| ports.iter().skip(number + 1).find(|other| other.listen == port.listen))
        {
            return Err(BalancerError::Twice { port: port.listen });
        }
        Ok(Outline { system: system.to_owned(), sites: behind, ports: ports.to_vec(), drain })
    }

    /// What stands above every snippet.
    fn head(&self, program: &str) -> String {
        format!(
            "# {program} before {}: traffic goes where a gate is open. Written by `warmspare gate config`.\n\
             # A gate that does not answer is closed. A unit takes traffic while its gate and itself say so.\n",
            self.system
        )
    }
}

fn word(what: &'static str, text: &str, why: &'static str) -> BalancerError {
    BalancerError::Word { what, text: text.to_owned(), why }
}

fn of_site<'a, 'b>(
    what: &'static str,
    text: &'a str,
    behind: &'b mut [Behind],
) -> Result<(&'b mut Behind, &'a str), BalancerError> {
    let (name, rest) = text.split_once('=').ok_or_else(|| word(what, text, "it does not name a site"))?;
    let site = behind.iter_mut().find(|site| site.site == name);
    Ok((site.ok_or_else(|| word(what, text, "it names no site of the configuration"))?, rest))
}

/// A name or an address, without what would mean something in a configuration file.
fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bare {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_~?=&%".contains(&byte))
}

/// Milliseconds, as all the programs write them.
fn ms(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}
