//! Where requests may go. A connection's host is fixed when it is set up; every request is compared with it, and every
//! address its name resolves to is checked before it is connected to. The checked address is the one that is used: there
//! is no second look-up in between that could answer differently.

use super::address::BaseUrl;
use super::route::{Proxy, Route};
use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Most ranges a connection may be granted per system.
pub const NETWORKS_MAX: usize = 16;

/// Addresses that are nobody's on the internet: private, shared, loopback, link-local with the metadata services,
/// documentation, benchmarks, relays, multicast, reserved (IANA's special-purpose registry).
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(168, 63, 129, 16, 32),
];
/// The only IPv6 addresses that are routed on the internet …
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
/// … without these: Teredo and other protocol assignments, documentation, 6to4.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),
    v6(0x2001, 0x0db8, 32),
    v6(0x2002, 0, 16),
    v6(0x3fff, 0, 20),
];
/// What a connection may be granted: the private and shared ranges, where an ERP in one's own network is. Neither the
/// metadata services nor the loopback are in them.
const GRANTABLE_V4: [Ipv4Net; 4] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
];
const GRANTABLE_V6: Ipv6Net = v6(0xfc00, 0, 7);
/// AWS's metadata services inside the unique-local range (`fd00:ec2::254`, `::23`, …).
const METADATA_V6: Ipv6Net = v6(0xfd00, 0x0ec2, 32);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// A private range that a connection's host may be in, for example `10.20.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl std::str::FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let net: IpNet = text.parse().map_err(|_| {
            format!(
                "a range like 10.20.0.0/16 was expected, not {}",
                domain::problem::clean(text)
            )
        })?;
        if net != net.trunc() {
            return Err(format!("the range of that address is {}", net.trunc()));
        }
        let is_private = match net {
            IpNet::V4(net) => GRANTABLE_V4.iter().any(|private| private.contains(&net)),
            IpNet::V6(net) => {
                GRANTABLE_V6.contains(&net) && !METADATA_V6.contains(&net) && !net.contains(&METADATA_V6)
            }
        };
        if is_private {
            Ok(Self(net))
        } else {
            Err(format!(
                "{net} is not inside 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7 (without fd00:ec2::/32)"
            ))
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether an address is one of the internet's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// A request or an address that the connection does not allow. Nothing was sent, and nothing will be until somebody
/// corrects the connection or its host's DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub(crate) String);

/// Where the requests of one connection to one system may go: one scheme, one host, one port, addresses of the internet
/// or of the granted ranges. Made at set-up, never from an answer; the hosts that an identity provider's own document names
/// are the one exception, and get no granted range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    origin: String,
    host: String,
    is_loopback: bool,
    networks: Arc<[Network]>,
    route: Route,
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.origin)
    }
}

impl Destination {
    /// The host of this base URL, and no other.
    pub fn of(base: &BaseUrl, networks: &[Network]) -> Self {
        Self {
            origin: base.origin(),
            host: base.name().to_owned(),
            is_loopback: base.is_loopback(),
            networks: networks.into(),
            route: Route::default(),
        }
    }

    /// The same host by this way out.
    #[must_use]
    pub fn by(self, route: &Route) -> Self {
        Self {
            route: route.clone(),
            ..self
        }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.route.proxy.as_deref()
    }

    /// Whose name is resolved here, and whose address is connected to: the proxy's, which resolves the host itself, or the
    /// host's.
    fn dialled(&self) -> &str {
        self.proxy()
            .map_or_else(|| self.host.trim_matches(['[', ']']), |proxy| proxy.host.as_str())
    }

    /// Checks a request's address: the very scheme, host and port, no user information; an address instead of a name is
    /// checked like a resolved one.
    pub(crate) fn check(&self, url: &reqwest::Url) -> Result<(), Forbidden> {
        let origin = url.origin().ascii_serialization();
        if origin != self.origin || !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden(format!(
                "{origin} is not the connection's host {}",
                self.origin
            )));
        }
        for literal in [self.host.trim_matches(['[', ']']), self.dialled()] {
            if let Ok(address) = literal.parse::<IpAddr>() {
                self.check_address(literal, address)?;
            }
        }
        Ok(())
    }

    /// Checks what the host's name resolved to: one address that is not allowed spoils them all, because somebody else's
    /// hand is in the name then.
    pub(crate) fn check_resolved(&self, name: &str, addresses: &[IpAddr]) -> Result<(), Forbidden> {
        let dialled = self.dialled();
        if !name.eq_ignore_ascii_case(dialled) {
            return Err(Forbidden(format!(
                "{name} is not the connection's host {dialled}"
            )));
        }
        if addresses.is_empty() {
            return Err(Forbidden(format!("{name} has no address")));
        }
        addresses
            .iter()
            .try_for_each(|address| self.check_address(name, *address))
    }

    fn check_address(&self, name: &str, address: IpAddr) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        let is_allowed = if self.is_loopback {
            address.is_loopback()
        } else {
            is_public(address) || self.networks.iter().any(|network| network.0.contains(&address))
        };
        if is_allowed {
            return Ok(());
        }
        Err(Forbidden(format!(
            "{name} leads to {address}, which is neither an address of the internet nor in a range granted to the connection"
        )))
    }
}

/// Resolves names. The system's own resolver, except in tests.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All addresses of a host.
    ///
    /// # Errors
    /// When the resolver gives no answer.
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
pub(crate) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect())
    }
}

/// What the HTTP library resolves with: looks up, checks, and hands over exactly what was checked.
#[derive(Clone)]
pub(crate) struct CheckedResolver {
    pub(crate) destination: Destination,
    pub(crate) lookup: Arc<dyn Lookup>,
}

/// Why something could not be done, before a byte was sent.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

impl CheckedResolver {
    /// The addresses of a host, all of them allowed.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failed> {
        let addresses = self.lookup.addresses(host).await?;
        self.destination.check_resolved(host, &addresses)?;
        Ok(addresses)
    }
}

impl reqwest::dns::Resolve for CheckedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            // Port 0: the library puts the address's own there.
            let checked = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            let checked: reqwest::dns::Addrs = Box::new(checked);
            Ok(checked)
        })
    }
}

/// The [`Forbidden`] among the causes of an error.
pub(crate) fn forbidden_in(error: &reqwest::Error) -> Option<Forbidden> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(forbidden) = inner.downcast_ref::<Forbidden>() {
            return Some(forbidden.clone());
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn destination(base: &str, networks: &[&str]) -> Destination {
        let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
        Destination::of(&base.parse().unwrap(), &networks)
    }

    fn url(text: &str) -> reqwest::Url {
        text.parse().unwrap()
    }

    /// Every kind of address that must not be reached through a name somebody else controls.
    const FORBIDDEN: [&str; 40] = [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ];

    #[test]
    fn names_that_lead_inside_are_refused() {
        let coupa = destination("https://example.coupahost.com", &[]);
        for text in FORBIDDEN {
            let address: IpAddr = text.parse().unwrap();
            let refused = coupa.check_resolved("example.coupahost.com", &[address]);
            assert!(refused.is_err(), "{text}");
            let public = "93.184.215.14".parse().unwrap();
            let mixed = coupa.check_resolved("example.coupahost.com", &[public, address]);
            assert!(mixed.is_err(), "one of several: {text}");
            let literal = if address.is_ipv6() {
                format!("https://[{text}]/x")
            } else {
                format!("https://{text}/x")
            };
            if address.is_loopback() {
                continue;
            }
            let fixed = destination(&literal, &[]);
            assert!(fixed.check(&url(&literal)).is_err(), "written as it is: {text}");
        }
        for text in [
            "93.184.215.14",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:93.184.215.14",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(
                coupa.check_resolved("Example.coupahost.com", &[address]),
                Ok(()),
                "{text}"
            );
        }
        assert!(coupa.check_resolved("example.coupahost.com", &[]).is_err());
        assert!(
            coupa
                .check_resolved("other.example.com", &["93.184.215.14".parse().unwrap()])
                .is_err()
        );
    }

    #[test]
    fn a_granted_range_is_allowed_and_nothing_beside_it() {
        let qad = destination(
            "https://qad.example.com/clouderp",
            &["10.20.0.0/16", "fd12:3456::/32"],
        );
        for (text, allowed) in [
            ("10.20.0.1", true),
            ("::ffff:10.20.255.254", true),
            ("10.21.0.1", false),
            ("fd12:3456::9", true),
            ("fd12:3457::9", false),
            ("169.254.169.254", false),
            ("127.0.0.1", false),
            ("93.184.215.14", true),
        ] {
            let checked = qad.check_resolved("qad.example.com", &[text.parse().unwrap()]);
            assert_eq!(checked.is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn only_private_ranges_can_be_granted() {
        for text in [
            "10.0.0.0/8",
            "172.20.0.0/14",
            "192.168.7.7/32",
            "100.64.0.0/10",
            "fd12::/16",
        ] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/7",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "169.254.169.254/32",
            "172.16.0.0/11",
            "::/0",
            "fe80::/10",
            "fc00::/7",
            "fd00:ec2::/32",
            "fd00:ec2::254/128",
            "::ffff:10.0.0.0/104",
            "10.1.2.3/16",
            "10.1.2.3",
            "10.0.0.0/33",
            "",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_is_fixed() {
        let base = destination("https://example.qad.com:8443/clouderp", &[]);
        assert_eq!(
            base.check(&url("https://example.qad.com:8443/elsewhere?q=1")),
            Ok(())
        );
        for text in [
            "https://example.qad.com/clouderp",
            "http://example.qad.com:8443/clouderp",
            "https://example.qad.com.evil.example:8443/",
            "https://example.qad.com:8443@evil.example/",
            "https://user@example.qad.com:8443/",
            "https://evil.example:8443/clouderp",
            "https://169.254.169.254/latest",
        ] {
            assert!(base.check(&url(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_is_reached_by_those_alone_who_say_so() {
        let local = destination("http://127.0.0.1:8080", &[]);
        assert_eq!(local.check(&url("http://127.0.0.1:8080/x")), Ok(()));
        let named = destination("http://localhost:8080", &[]);
        assert_eq!(
            named.check_resolved(
                "localhost",
                &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
            ),
            Ok(())
        );
        assert!(
            named
                .check_resolved("localhost", &["93.184.215.14".parse().unwrap()])
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_one_inside(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_public(address.into()), is_public(address.to_ipv6_mapped().into()));
        }

        #[test]
        fn no_grant_opens_a_special_address(bits: u32, a: u8, b: u8, prefix in 0_u8..=32) {
            let address = IpAddr::from(Ipv4Addr::from_bits(bits));
            let net = Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), prefix).unwrap().trunc().to_string();
            if let Ok(network) = net.parse::<Network>() {
                let granted = network.0.contains(&address);
                prop_assert!(!granted || !(address.is_loopback() || Ipv4Addr::from_bits(bits).is_link_local()));
            }
        }
    }
}
