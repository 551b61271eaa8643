//! What the server reaches, and where it is reached: names, ports, proxies.

use std::ffi::OsString;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use url::Url;

use crate::app;
use crate::doctor::{Fact, Severity};
use crate::settings::listener::{ListenAddress, ListenEndpoint};
use crate::settings::table::Config;
use crate::settings::trusted_proxies::TrustedProxies;

/// For one address.
const CONNECT: Duration = Duration::from_secs(3);
/// For a name and its addresses.
const REACH: Duration = Duration::from_secs(10);
/// A name that takes longer delays each attempt to connect.
const SLOW_NAME: Duration = Duration::from_secs(1);
/// Variables that other programs read.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Whether each address can be listened at.
pub fn listeners(config: &Config) -> Vec<Fact> {
    config.listen.iter().chain(&config.admin.listen).map(listener).collect()
}

fn listener(address: &ListenAddress) -> Fact {
    let subject = format!("listener `{address}`");
    let tried = match &address.endpoint {
        ListenEndpoint::Tcp(address) => TcpListener::bind(address).map(|_| ()),
        // A server removes the file of a socket that nobody answers at, and nothing else.
        ListenEndpoint::Unix { path, .. } if UnixStream::connect(path).is_ok() => Err(io::ErrorKind::AddrInUse.into()),
        ListenEndpoint::Unix { path, .. } if is_other_file(path) => Err(io::ErrorKind::AlreadyExists.into()),
        ListenEndpoint::Unix { path, .. } => match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() || folder.is_dir() => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    };
    let Err(error) = tried else { return Fact::fine(subject, "free") };
    let (severity, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => {
            (Severity::Hint, "if it is fanline that listens there, `--pid` looks at it; otherwise choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            (Severity::Fault, "a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd)")
        }
        io::ErrorKind::AlreadyExists => (Severity::Fault, "something that is no socket is there: choose another path"),
        io::ErrorKind::NotFound => (Severity::Fault, "create the directory; RuntimeDirectory= in systemd makes one"),
        _ => (Severity::Fault, "choose an address of this machine (`ip address`), or 0.0.0.0"),
    };
    Fact::new(severity, subject, error.to_string(), remedy)
}

fn is_other_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.file_type().is_socket())
}

/// Proxies before the server, and on the way to the feed.
pub fn proxies(config: &Config, environment: &[(OsString, OsString)]) -> Vec<Fact> {
    let mut facts = Vec::new();
    let is_public = config.listen.iter().any(ListenAddress::is_public);
    if !is_public && config.proxy.trusted == TrustedProxies::default() {
        let found = "the server is reached from this machine alone, and trusts no proxy";
        let remedy =
            "with a proxy in front, set `proxy.trusted`: otherwise all clients share the limits of its address";
        facts.push(Fact::new(Severity::Hint, "proxy in front", found, remedy));
    }
    let is_set = |name: &&str| environment.iter().any(|(found, value)| found == *name && !value.is_empty());
    if let Some(name) = PROXY_VARIABLES.into_iter().find(is_set).filter(|_| config.upstream.proxy.is_none()) {
        let remedy = "if the feed is reached through it, set `upstream.proxy`";
        facts.push(Fact::new(Severity::Hint, "proxy to the feed", format!("{name} is set, and not read"), remedy));
    }
    facts
}

/// Whether what the server connects to has a name, and listens.
pub fn names(config: &Config) -> Vec<Fact> {
    let places = places(config);
    let (sender, receiver) = mpsc::channel();
    for (index, (_, host, port)) in places.iter().enumerate() {
        let (sender, host, port) = (sender.clone(), host.clone(), *port);
        // A thread that is still resolving ends with the process.
        thread::spawn(move || sender.send((index, reach(&host, port))));
    }
    drop(sender);
    let deadline = Instant::now() + REACH;
    let mut reached: Vec<Option<Result<ReachedPlace, io::Error>>> = places.iter().map(|_| None).collect();
    while let Ok((index, result)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        reached[index] = Some(result);
    }
    places.into_iter().zip(reached).map(|((what, host, port), reached)| fact(what, &host, port, reached)).collect()
}

struct ReachedPlace {
    resolved_after: Duration,
    connected_after: Duration,
}

/// The name and the port alone: a URL may hold a secret.
fn fact(what: &str, host: &str, port: u16, reached: Option<io::Result<ReachedPlace>>) -> Fact {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let subject = format!("{what} `{host}:{port}`");
    match reached {
        Some(Ok(ReachedPlace { resolved_after, connected_after })) => {
            let (resolved, connected) = (resolved_after.as_millis(), connected_after.as_millis());
            let found = format!("resolved in {resolved} ms, connected in {connected} ms");
            if resolved_after < SLOW_NAME {
                return Fact::fine(subject, found);
            }
            let remedy = "see /etc/resolv.conf: a dead server of names is asked first, each time";
            Fact::new(Severity::Warning, subject, found, remedy)
        }
        Some(Err(error)) => {
            Fact::new(Severity::Fault, subject, error.to_string(), "check the name, the port, DNS and the firewall")
        }
        None => {
            let found = format!("no answer within {} s", REACH.as_secs());
            Fact::new(Severity::Fault, subject, found, "see /etc/resolv.conf, and whether a firewall drops packets")
        }
    }
}

fn reach(host: &str, port: u16) -> io::Result<ReachedPlace> {
    let begun = Instant::now();
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let resolved_after = begun.elapsed();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in &addresses {
        let begun = Instant::now();
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(_) => return Ok(ReachedPlace { resolved_after, connected_after: begun.elapsed() }),
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Behind a proxy the feed's own name is the proxy's matter.
fn places(config: &Config) -> Vec<(&'static str, String, u16)> {
    let profile = app::profile(config).ok();
    let feed = profile.and_then(|profile| app::feed_url(config, &profile).ok().flatten());
    let mut urls = Vec::new();
    match &config.upstream.proxy {
        Some(proxy) => urls.push(("proxy to the feed", proxy)),
        None => urls.extend(feed.iter().chain(&config.upstream.fallback_urls).map(|url| ("feed", url))),
    }
    urls.extend(config.cluster.urls.iter().map(|url| ("NATS", url)));
    urls.extend(config.relay.parents.iter().map(|url| ("parent", url)));
    let mut places = Vec::new();
    for found in urls.into_iter().filter_map(|(what, url)| place(what, url)) {
        if !places.contains(&found) {
            places.push(found);
        }
    }
    places
}

fn place(what: &'static str, url: &str) -> Option<(&'static str, String, u16)> {
    let parsed = Url::parse(url).ok()?;
    let port = parsed.port_or_known_default().or(match parsed.scheme() {
        "socks5" | "socks5h" => Some(1080),
        "nats" | "tls" => Some(4222),
        _ => None,
    })?;
    Some((what, parsed.host_str()?.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port_without_secrets() {
        for (url, host, port) in [
            ("wss://user:secret@feed.example.com/ws?key=secret", "feed.example.com", 443),
            ("ws://[::1]:9001/", "::1", 9001),
            ("socks5://proxy.example", "proxy.example", 1080),
            ("nats://10.0.0.5", "10.0.0.5", 4222),
        ] {
            assert_eq!(place("feed", url), Some(("feed", host.into(), port)));
        }
        assert_eq!(place("feed", "none"), None);
    }

    #[test]
    fn a_port_is_free_or_taken_and_a_listener_is_reached_or_not() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(listener(&address.into()).severity, Severity::Hint);
        let place = |reached| fact("feed", "127.0.0.1", address.port(), Some(reached)).severity;
        assert_eq!(place(reach("127.0.0.1", address.port())), Severity::Fine);
        drop(taken);
        assert_eq!(listener(&address.into()).severity, Severity::Fine);
        assert_eq!(place(reach("127.0.0.1", address.port())), Severity::Fault);
        let slow = ReachedPlace { resolved_after: SLOW_NAME, connected_after: Duration::ZERO };
        assert_eq!(place(Ok(slow)), Severity::Warning);
        assert_eq!(fact("feed", "127.0.0.1", 1, None).severity, Severity::Fault);
    }

    #[test]
    fn a_proxy_variable_that_is_not_read_is_named() {
        let variables = [("ALL_PROXY".into(), "socks5://127.0.0.1".into())];
        let found = proxies(&Config::default(), &variables);
        let subjects: Vec<&str> = found.iter().map(|fact| fact.subject.as_str()).collect();
        assert_eq!(subjects, ["proxy in front", "proxy to the feed"]);
        assert!(found[1].found.starts_with("ALL_PROXY"));
    }
}
