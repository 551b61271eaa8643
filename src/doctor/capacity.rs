//! What the machine gives: files, memory, cores, queues, ports.

use crate::app;
use crate::doctor::machine::Machine;
use crate::doctor::{Fact, Severity, bytes};
use crate::edge::listen::listener::BACKLOG;
use crate::identity::tables::TierTable;
use crate::identity::tiers::VIEWS_MAX;
use crate::settings::listener::ListenAddress;
use crate::settings::table::Config;

/// The payload, and its encodings: envelope and raw, plain and deflated.
const COPIES_PER_FRAME: u64 = 5;
/// A shared window (docs/operations/memory.md).
const WINDOW_BYTES: u64 = 300 << 10;
/// A session without a list, its TLS, and its socket in the kernel.
const SESSION_BYTES: u64 = 6 << 10;
/// Client requests of a shard, and their answers.
const REQUEST_BYTES: u64 = 32 << 20;

pub fn facts(config: &Config, tiers: &[TierTable], machine: &Machine) -> Vec<Fact> {
    let shards = app::shards(config);
    let clients = config.limits.sessions_max.saturating_add(config.http.connections_max);
    [
        open_files(config, machine),
        memory(memory_bounds(config, tiers, shards as u64), machine),
        cores(machine, shards),
        accept_queue(machine),
        ports(config, machine),
        conntrack(machine, clients as u64),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn open_files(config: &Config, machine: &Machine) -> Option<Fact> {
    const SUBJECT: &str = "open files";
    let limit = machine.open_files_max()?;
    let (wanted, shares) = app::file_shares::wanted_and_allowed(config, limit);
    let shown = if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let found = format!(
        "the limit is {shown}: room for {} of {} sessions and {} of {} connections",
        shares.sessions_max, wanted.sessions_max, shares.connections_max, wanted.connections_max
    );
    if shares == wanted {
        return Some(Fact::fine(SUBJECT, found));
    }
    let needed = wanted.files_max + wanted.files_max / 10;
    let remedy = format!(
        "set LimitNOFILE={needed} in systemd, `--ulimit nofile={needed}` in Docker, or lower limits.sessions_max"
    );
    Some(Fact::new(Severity::Warning, SUBJECT, found, remedy))
}

fn memory(mut parts: Vec<(&'static str, u64)>, machine: &Machine) -> Option<Fact> {
    let (max, whose) = machine.memory_max()?;
    let sum = parts.iter().fold(0_u64, |sum, (_, part)| sum.saturating_add(*part));
    let found = format!("{whose} has {}, the settings allow {} at most", bytes(max), bytes(sum));
    if sum <= max {
        return Some(Fact::fine("memory", found));
    }
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(*part));
    let most: Vec<String> = parts.iter().take(3).map(|(name, part)| format!("{name} ({})", bytes(*part))).collect();
    let remedy = format!("lower what weighs most: {}; docs/operations/memory.md", most.join(", "));
    Some(Fact::new(Severity::Warning, "memory", found, remedy))
}

/// What each setting allows, docs/operations/memory.md.
fn memory_bounds(config: &Config, tiers: &[TierTable], shards: u64) -> Vec<(&'static str, u64)> {
    let per_shard = |bytes: usize| shards.saturating_mul(bytes as u64);
    let is_delayed = |tier: &&TierTable| tier.topics.iter().any(|granted| !granted.delay.is_zero());
    let views = tiers.iter().filter(is_delayed).count().min(VIEWS_MAX) as u64;
    vec![
        ("ring.bytes_max", COPIES_PER_FRAME.saturating_mul(config.ring.bytes_max as u64)),
        ("limits.sessions_max", SESSION_BYTES.saturating_mul(config.limits.sessions_max as u64)),
        ("limits.lane_bytes_total_max", per_shard(config.limits.lane_bytes_total_max)),
        ("limits.inbound_bytes_total_max", per_shard(config.limits.inbound_bytes_total_max)),
        ("slow.unsent_bytes_total_max", per_shard(config.slow.unsent_bytes_total_max)),
        ("compression.windows_max", shards * WINDOW_BYTES * config.compression.windows_max as u64),
        ("http.answer_bytes_max", config.http.answer_bytes_max as u64),
        ("delay.bytes_max", views.saturating_mul(config.delay.bytes_max as u64)),
        ("upstream.request", if config.upstream.request { shards * REQUEST_BYTES } else { 0 }),
    ]
}

fn cores(machine: &Machine, shards: usize) -> Option<Fact> {
    let cores = machine.cores_max()?;
    let found = format!("the cgroup allows {cores} cores, and there are {shards} shards");
    if shards as f64 <= cores.ceil() {
        return Some(Fact::fine("cores", found));
    }
    let remedy = format!("set `shards.count = {}`, or raise the quota: a throttled shard delivers late", cores.ceil());
    Some(Fact::new(Severity::Warning, "cores", found, remedy))
}

fn accept_queue(machine: &Machine) -> Option<Fact> {
    const SUBJECT: &str = "accept queue";
    let most = *machine.sysctl("net.core.somaxconn")?.first()?;
    let found = format!("net.core.somaxconn is {most}, fanline asks for {BACKLOG}");
    if most >= BACKLOG as u64 {
        return Some(Fact::fine(SUBJECT, found));
    }
    let remedy = format!(
        "`sysctl -w net.core.somaxconn={BACKLOG}`: when all clients reconnect at once, those beyond the queue wait a second and more"
    );
    Some(Fact::new(Severity::Warning, SUBJECT, found, remedy))
}

/// Of a proxy on this machine, each connection needs a port.
fn ports(config: &Config, machine: &Machine) -> Option<Fact> {
    let range = machine.sysctl("net.ipv4.ip_local_port_range")?;
    let [from, to] = range[..] else { return None };
    let (ports, wanted) = (to.saturating_sub(from).saturating_add(1), config.limits.sessions_max as u64);
    let tcp = config.listen.iter().filter(|address| address.socket_addr().is_some());
    let loopbacks = tcp.filter(|address| !address.is_public()).count() as u64;
    if loopbacks == 0 || config.listen.iter().any(ListenAddress::is_public) {
        return None;
    }
    let found = format!(
        "net.ipv4.ip_local_port_range has {ports}, so a proxy on this machine opens {} connections to {loopbacks} addresses",
        ports.saturating_mul(loopbacks)
    );
    if ports.saturating_mul(loopbacks) >= wanted {
        return Some(Fact::fine("ports", found));
    }
    let remedy = "listen on a unix socket, or on more addresses (127.0.0.2, …), or `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`";
    Some(Fact::new(Severity::Hint, "ports", found, remedy))
}

fn conntrack(machine: &Machine, clients: u64) -> Option<Fact> {
    let most = *machine.sysctl("net.netfilter.nf_conntrack_max")?.first()?;
    let now = machine.sysctl("net.netfilter.nf_conntrack_count").and_then(|count| count.first().copied());
    let found = format!("nf_conntrack_max is {most}, in use: {}", now.unwrap_or(0));
    if most.saturating_sub(now.unwrap_or(0)) >= clients {
        return Some(Fact::fine("conntrack", found));
    }
    let remedy = format!(
        "the kernel drops new connections once the table is full: `sysctl -w net.netfilter.nf_conntrack_max={}`, or exempt the port (notrack)",
        (2 * clients).max(most)
    );
    Some(Fact::new(Severity::Warning, "conntrack", found, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::machine::tests::machine;

    fn config(lines: &str) -> Config {
        let file = crate::config::File { path: std::path::Path::new("test.toml"), text: lines };
        crate::config::load_text(Some(&file), &crate::config::ConfigSources::default()).expect("valid").config
    }

    fn severities(facts: &[Fact]) -> Vec<(&str, Severity)> {
        facts.iter().map(|fact| (fact.subject.as_str(), fact.severity)).collect()
    }

    #[test]
    fn a_small_machine_is_warned_of_and_a_large_one_is_not() {
        let settings = config("listen = \"0.0.0.0:8080\"\n[shards]\ncount = 4\n");
        let small = machine(
            "small",
            &[
                ("proc/meminfo", "MemTotal: 524288 kB\n"),
                ("proc/7/cgroup", "0::/\n"),
                ("proc/7/limits", "Max open files  1024  4096  files\n"),
                ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
                ("proc/sys/net/core/somaxconn", "128\n"),
                ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n"),
                ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ],
        );
        let subjects = ["open files", "memory", "cores", "accept queue", "conntrack"];
        let expected: Vec<_> = subjects.iter().map(|subject| (*subject, Severity::Warning)).collect();
        assert_eq!(severities(&facts(&settings, &[], &small)), expected);

        let large = machine(
            "large",
            &[
                ("proc/meminfo", "MemTotal: 67108864 kB\n"),
                ("proc/7/cgroup", "0::/\n"),
                ("proc/7/limits", "Max open files  1024  1048576  files\n"),
                ("sys/fs/cgroup/cpu.max", "800000 100000\n"),
                ("proc/sys/net/core/somaxconn", "4096\n"),
                ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n"),
                ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ],
        );
        let expected: Vec<_> = subjects.iter().map(|subject| (*subject, Severity::Fine)).collect();
        assert_eq!(severities(&facts(&settings, &[], &large)), expected);
        assert!(facts(&settings, &[], &machine("blind", &[])).is_empty(), "what cannot be seen is not judged");
    }

    #[test]
    fn the_remedy_for_memory_names_what_weighs_most() {
        let settings = config("[ring]\nbytes_max = \"2GiB\"\n[shards]\ncount = 1\n");
        let small = machine("ring", &[("proc/meminfo", "MemTotal: 4194304 kB\n")]);
        let fact = memory(memory_bounds(&settings, &[], 1), &small).expect("memory is seen");
        let remedy = fact.remedy.expect("one");
        assert!(remedy.starts_with("lower what weighs most: ring.bytes_max (10.0 GiB), "), "{remedy}");
    }

    #[test]
    fn ports_are_counted_for_a_proxy_on_this_machine() {
        let range = [("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n")];
        let machine = machine("ports", &range);
        let severity = |lines: &str| ports(&config(lines), &machine).map(|fact| fact.severity);
        assert_eq!(severity("listen = \"127.0.0.1:80\"\n"), Some(Severity::Hint));
        assert_eq!(severity("listen = \"127.0.0.1:80\"\n[limits]\nsessions_max = 20000\n"), Some(Severity::Fine));
        assert_eq!(severity("listen = \"0.0.0.0:80\"\n"), None);
        assert_eq!(severity("listen = \"unix:/run/f\"\n"), None);
    }
}
