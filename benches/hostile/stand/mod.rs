//! A server under attack: a feed, honest clients whose waits are measured, and one attacker at a time.
//!
//! Each attack has a server process of its own, so that memory can be compared. Three phases: quiet, attack, after. In
//! each the feed sends for a while, then stops, and every delivery is accounted for; a message counts from the moment
//! it was due, so that a feed that is held up is seen too. Attackers use other loopback addresses than honest clients.
//! They stand for machines of their own, but share these cores: so their threads may leave these to everything else.

pub mod attack;
mod commands;
mod connections;
mod field;
mod honest;
mod http;
mod line;
mod newcomers;
mod patterns;
mod readers;
pub mod row;
mod server;
mod venue;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use fanline::bus::clock::Clock;

use attack::Attack;
use field::Field;
use honest::Honest;
use newcomers::Newcomers;
use row::{Phase, Row};
use server::Server;
use venue::Venue;

/// Different lists of topics among the honest clients. Each has as many clients as each other, give or take one.
pub const LISTS: usize = 20;
/// Topics that move; each list has a twentieth of them.
pub const LIVE_TOPICS: usize = 1000;
/// What memory may grow by, in all.
pub const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// How the attacks are measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fanline to attack.
    pub program: PathBuf,
    pub honest: usize,
    /// Messages a second of the feed.
    pub rate: u64,
    pub quiet: Duration,
    pub attack: Duration,
    pub after: Duration,
    /// What each of the attackers' threads does first, such as leaving the cores to others.
    pub yields: fn(),
}

/// One attack on a server of its own.
///
/// Errors: the server did not start, or honest clients could not connect to it while all was quiet.
pub fn measure(attack: &Attack, plan: &Plan) -> io::Result<Row> {
    let clock = Clock::start();
    let venue = Venue::open(plan.rate, clock)?;
    let server = Server::start(&plan.program, &venue.url(), attack)?;
    venue.introduce(attack.still_topics)?;
    let mut honest = Honest::join(server.address(), plan.honest, clock)?;
    let newcomers = Newcomers::start(server.address());
    let mut phase = |span: Duration, deed: &mut dyn FnMut()| {
        let (before, since) = (server.usage(), std::time::Instant::now());
        newcomers.restart();
        honest.restart();
        venue.speak();
        deed();
        std::thread::sleep(span.saturating_sub(since.elapsed()));
        let (waits, used) = (newcomers.waits(), server.usage());
        let cpu = used.cpu.saturating_sub(before.cpu).as_secs_f64() / since.elapsed().as_secs_f64();
        let (said, hushed) = (venue.hush(), std::time::Instant::now());
        let look = honest.settle(&said);
        Phase::new(&look, hushed.elapsed(), waits, cpu)
    };
    let quiet = phase(plan.quiet, &mut || ());
    let resident_before = server.usage().resident_bytes;
    server.forget_peak();
    let field = Field::new(&server, &venue, plan);
    let mut found = attack::Found::default();
    let attacked = phase(plan.attack, &mut || found = (attack.run)(&field));
    let after = (!attack.ends_server).then(|| phase(plan.after, &mut || ()));
    Ok(Row {
        attack: attack.name,
        sent_bytes: field.sent_bytes(),
        turned_away: field.turned_away(),
        quiet,
        attacked,
        after,
        growth_bytes: server.peak_bytes().saturating_sub(resident_before),
        ended: server.has_ended() && !attack.ends_server,
        found,
        ends_server: attack.ends_server,
    })
}
