//! The proxies whose word counts: `proxy.trusted`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::list;

/// In place of an address: whoever may write to the unix sockets of `listen`.
const UNIX: &str = "unix";

/// Addresses and networks; the default trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads a list in one text; the error is the remedy.
    pub fn read(text: &str) -> Result<TrustedProxies, String> {
        let mut trusted = TrustedProxies::default();
        for item in list::read(text)? {
            if item == UNIX {
                trusted.unix = true;
            } else {
                trusted.networks.push(network(&item)?);
            }
        }
        Ok(trusted)
    }

    /// The items, in a form that [`TrustedProxies::read`] reads back.
    pub fn items(&self) -> Vec<String> {
        let network = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        self.networks.iter().map(network).chain(self.unix.then(|| UNIX.to_owned())).collect()
    }

    /// `address`: none for a unix socket.
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        match address.map(|address| address.to_canonical()) {
            Some(address) => self.networks.iter().any(|network| network.contains(&address)),
            None => self.unix,
        }
    }

    /// Whether a proxy may speak at a TCP listener, or at a unix socket.
    pub fn has_any(&self, at_unix: bool) -> bool {
        if at_unix { self.unix } else { !self.networks.is_empty() }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let refuse = |remedy: String| format!("in `{}`: {remedy}", text.chars().take(64).collect::<String>());
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        refuse(
            "write an address such as `10.0.0.7`, a network such as `10.0.0.0/8` or `2001:db8::/32`, or `unix`".into(),
        )
    })?;
    // Bits behind the prefix are a typing error: `10.1.2.3/8` was meant as one of two things.
    if network.addr() != network.network() {
        return Err(refuse(format!(
            "write `{}` for the network, or leave out `/{}`",
            network.trunc(),
            network.prefix_len()
        )));
    }
    // Addresses are compared in their canonical form, so a network of mapped ones would contain none.
    if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err(refuse("write it as an IPv4 network".into()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_trusted() {
        let trusted = TrustedProxies::read("10.0.0.0/8, 192.0.2.7, 2001:db8::/32, ::1").expect("valid");
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
            // The embedded address of a compatible or translated one is not the address.
            ("::10.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("2001:db8:1::2", true),
            ("2001:db9::1", false),
            ("::1", true),
        ] {
            assert_eq!(trusted.trusts(Some(address.parse().expect(address))), expected, "{address}");
        }
        assert!(!trusted.trusts(None) && !trusted.has_any(true) && trusted.has_any(false));
        let unix = TrustedProxies::read("unix").expect("valid");
        assert!(unix.trusts(None) && unix.has_any(true) && !unix.has_any(false));
        assert!(!unix.trusts(Some("127.0.0.1".parse().expect("an address"))));
        assert!(!TrustedProxies::default().trusts(None));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, remedy) in [
            ("10.0.0.1/8", "`10.0.0.0/8`"),
            ("10.0.0.0/33", ""),
            ("10.0.0/8", ""),
            ("proxy.example.com", ""),
            ("010.0.0.1", ""),
            ("::ffff:10.0.0.0/104", "IPv4 network"),
            ("10.0.0.7:80", ""),
            ("*", ""),
        ] {
            let error = TrustedProxies::read(text).expect_err(text);
            assert!(error.contains(&format!("in `{text}`")) && error.contains(remedy), "{error}");
        }
    }
}
