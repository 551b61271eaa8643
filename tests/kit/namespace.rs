//! A network of its own for one process, with links to this one that can be cut: what is sent on a link that is cut is
//! lost, and nobody is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use super::skip_loudly;

/// Of each test process 16 addresses, within those that are meant for tests of networks (RFC 2544).
const NETWORKS: u32 = 1 << 13;
const LINKS_MAX: u32 = 4;

pub struct Namespace {
    name: String,
    network: u32,
    links: u32,
}

impl Namespace {
    /// None, and it says so, where networks cannot be made.
    pub fn open(test: &str, links: usize) -> Option<Namespace> {
        let links = u32::try_from(links).ok().filter(|links| *links <= LINKS_MAX).expect("a few links");
        let number = std::process::id() % NETWORKS;
        let namespace = Namespace { name: format!("fanline-{}", std::process::id()), network: number, links };
        if namespace.make().is_none() {
            skip_loudly(test, "networks cannot be made here: it needs root and `ip netns`");
            return None;
        }
        Some(namespace)
    }

    fn make(&self) -> Option<()> {
        ip(&["netns", "add", &self.name])?;
        ip(&["-n", &self.name, "link", "set", "lo", "up"])?;
        for link in 0..self.links {
            let (outer, inner) = (self.outer(link), self.inner(link));
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &self.name])?;
            ip(&["address", "add", &format!("{}/30", self.address(link, 1)), "dev", &outer])?;
            ip(&["link", "set", &outer, "up"])?;
            ip(&["-n", &self.name, "address", "add", &format!("{}/30", self.address(link, 2)), "dev", &inner])?;
            ip(&["-n", &self.name, "link", "set", &inner, "up"])?;
        }
        Some(())
    }

    fn outer(&self, link: u32) -> String {
        format!("fo{}-{link}", self.network)
    }

    fn inner(&self, link: u32) -> String {
        format!("fi{}-{link}", self.network)
    }

    fn address(&self, link: u32, host: u32) -> Ipv4Addr {
        Ipv4Addr::from((198 << 24 | 18 << 16) + self.network * 16 + link * 4 + host)
    }

    /// How what listens in it is reached by this link.
    pub fn reached_by(&self, link: usize, port: u16) -> SocketAddr {
        SocketAddr::from((self.address(link as u32, 2), port))
    }

    /// A command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    pub fn cut(&self, link: usize) {
        ip(&["-n", &self.name, "link", "set", &self.inner(link as u32), "down"]).expect("a link of its own");
    }

    pub fn join(&self, link: usize) {
        ip(&["-n", &self.name, "link", "set", &self.inner(link as u32), "up"]).expect("a link of its own");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its links go with it.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Option<()> {
    let done = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.ok().filter(std::process::ExitStatus::success).map(|_| ())
}
