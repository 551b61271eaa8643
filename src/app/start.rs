//! The start of a server: its parts, in an order in which each finds what it needs.

use std::io;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::access::end_journal::EndJournal;
use crate::access::rights::ViewId;
use crate::access::session_numbers::SessionNumbers;
use crate::app::canary::{CanaryPlan, CanarySurroundings};
use crate::app::clustering::feed_in_turns;
use crate::app::configuration_digest::ConfigurationDigest;
use crate::app::fault_injection::FaultInjection;
use crate::app::feed_settings::FeedSettings;
use crate::app::file_shares::{edge_settings, share_open_files};
use crate::app::gatekeeping::Gatekeeping;
use crate::app::handover::predecessor::Predecessor;
use crate::app::handover::service_manager::ServiceManager;
use crate::app::handover::successor::ProgramStart;
use crate::app::handover::{Handover, HandoverMeters, requests};
use crate::app::measuring::measure;
use crate::app::opening::{BusWriter, OpenBus};
use crate::app::operator::ServerOperator;
use crate::app::parts::VitalParts;
use crate::app::pausable_feed::{FeedControl, PausableFeed};
use crate::app::relaying::{FollowedLog, RelayNode};
use crate::app::reload::{Reload, ReloadMeters, journal_limits};
use crate::app::roles::{serve_http, start_simulator};
use crate::app::server::RunningServer;
use crate::app::views::{LogTerms, OpenViews};
use crate::app::{
    AppError, archiving, clustering, demand, feed_url, opening, operator, parts, profile, relaying, shards, views,
};
use crate::audit::log::AuditLog;
use crate::bus::Limits;
use crate::bus::clock::Clock;
use crate::bus::demand::ClientInput;
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::bus::shown_log::ShownLog;
use crate::bus::signal::pulse::Vitals;
use crate::check::rehearse;
use crate::cluster::relay::greeting::ParentGreeting;
use crate::cluster::runner::ShowEpoch;
use crate::config::logs::Logging;
use crate::config::{ConfigSources, Effective};
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::shards::Delivery;
use crate::edge::http::terms::EdgeTerms;
use crate::edge::listen::inherited::InheritedSockets;
use crate::edge::parts::EdgeParts;
use crate::edge::phase::Phase;
use crate::edge::settings::Settings as EdgeSettings;
use crate::edge::{Edge, EdgeError, exposition};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::profile::Profile;
use crate::settings::listener::ListenAddress;
use crate::settings::table::Config;
use crate::words::metrics::{self as names, Meters};

/// Starts all parts of a server; returns the addresses for clients. With a predecessor nothing is accepted yet.
pub(super) fn start(
    effective: Effective,
    (sources, program): (ConfigSources, ProgramStart),
    (mut predecessor, inherited): (Option<&mut Predecessor>, &mut InheritedSockets),
    log: &Logging,
) -> Result<(RunningServer, Vec<ListenAddress>), AppError> {
    let (config, auth) = (effective.config.clone(), effective.auth.clone());
    let (stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let faults = FaultInjection::find();
    let (meters, exposition) = exposition::recorder();
    let digest = ConfigurationDigest::of(&config, &auth);
    let open_audit = if predecessor.is_some() { AuditLog::open_after } else { AuditLog::open };
    let audit = open_audit(&config.audit, &digest.to_string(), &meters)?;
    let gatekeeping = Gatekeeping::start(&config.auth, auth.clone(), &meters)?;
    let history = History::parse(&config.history.keep)?;
    let chosen = profile(&config)?;
    let is_for_one = is_for_one_process(&config, &chosen);
    let (is_market, dialect) = (chosen.is_simulated(), chosen.dialect.clone());
    let url = feed_url(&config, &chosen)?;
    let feed_settings = url.map(|url| Arc::new(FeedSettings::new(&config, chosen.clone(), url, clock)));
    let limits = Limits {
        ring_frames_max: config.ring.frames_max,
        ring_bytes_max: config.ring.bytes_max,
        topics_max: config.limits.topics_max,
    };
    let rules = demand::rules(&config)?;
    relaying::check(&config, &auth)?;
    let (process, served) = (rand::random(), relaying::served_log(&config));
    let own = (&*digest.to_string(), process, served.clone());
    let node = clustering::join((&config, rules), (limits, &history), own, (clock, &meters))?;
    let relay = relaying::join(&config, (limits, &history), (process, served.clone()), (clock, &meters))?;
    let simulated = relay.as_ref().map_or(is_market, RelayNode::is_simulated);
    meters.gauge(&names::UPSTREAM_SIMULATED, &[]).set(f64::from(u8::from(simulated)));
    let followed = FollowedLog::of(node.as_ref(), relay.as_ref());
    let (client_requests, clients) = demand::open(&config, &meters)?;
    let interest = clients.interest.clone();
    if let Some(predecessor) = predecessor.as_deref_mut().filter(|_| is_for_one) {
        // From here on clients wait, so all that can be refused is refused before.
        rehearse(&config, &auth)?;
        Edge::check_listeners(&EdgeSettings::new(&config), inherited)?;
        predecessor.release()?;
    }
    let OpenBus { source, shown, archive, cluster } =
        opening::open(&config, (node, relay, clients), (limits, &history), (clock, &meters))?;
    let served = (served, followed, process, simulated);
    let (mut host, mut relays, mut says) = (None, None, None);
    if let Some(hosted) = relaying::host(&config, served, shown.clone(), (clock, &meters))? {
        (host, relays, says) = (Some(hosted.host), Some(hosted.admission), Some(hosted.says));
    }
    let reader = shown.reader();
    let delays = gatekeeping.views();
    let journal = EndJournal::new(journal_limits(&config), &meters);
    let handles = BusHandles {
        view: ViewId::LIVE,
        reader: reader.clone(),
        interest,
        requests: client_requests,
        gatekeeper: gatekeeping.gatekeeper.clone(),
        audit: audit.clone(),
        journal: journal.clone(),
        numbers: SessionNumbers::since(clock.now().wall_ms),
        dialect: dialect.clone(),
    };
    let live = (&handles, shards(&config));
    let shared = predecessor.as_deref().and_then(Predecessor::spool_lock);
    let terms = LogTerms { limits, history: &history, delay: &config.delay, spool_lock: shared };
    let OpenViews { views, delayed, lines, workers, shards: on_views, spool_lock } =
        views::open(&delays, (live, &shown), &terms, (clock, &meters))?;
    let shares = share_open_files(&config, workers.len());
    let settings = DeliverySettings::new(&config, shards(&config), simulated);
    let (delivery, threads) =
        Delivery::start_views(settings, on_views, clock, &meters).map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    gatekeeping.connect(&delivery);
    let mut pulses = [delivery.pulses(), vec![("feed".into(), reader.pulse())]].concat();
    if !lines.is_empty() {
        pulses.push(("delay".into(), lines.pulse.clone()));
    }
    let canary = CanaryPlan::of(&config, &meters);
    pulses.extend(canary.iter().map(|canary| ("canary".to_owned(), canary.pulse.clone())));
    let vitals = Vitals::new(clock, pulses);
    let edge_settings = edge_settings(&config, &shares, simulated);
    let tls = edge_settings.load_tls(&meters).map_err(EdgeError::Tls)?;
    let terms = EdgeTerms::new(&edge_settings);
    let service = ServiceManager::find(&sources.variables);
    let (trigger, requests) = requests::open();
    let reload = Arc::new(Reload {
        sources,
        effective: ArcSwap::from_pointee(effective),
        // In a cluster another server may have the feed.
        feed: feed_settings.clone().filter(|_| config.cluster.urls.is_empty()),
        turn: Mutex::default(),
        identities: gatekeeping.identities.clone(),
        tls: tls.clone(),
        terms: terms.clone(),
        delivery: delivery.clone(),
        level: log.level.clone(),
        audit: audit.clone(),
        journal: journal.clone(),
        meters: ReloadMeters::new(&meters, &digest),
        simulated,
        spools: workers.len(),
    });
    let adopting = delivery.clone();
    let parts_of_edge = EdgeParts {
        views,
        adopt: faults.attach(Arc::new(move |handoff| adopting.adopt(handoff))),
        vitals: vitals.clone(),
        meters: meters.clone(),
        exposition: exposition.measuring(measure(&vitals, log.queue.clone(), &meters)),
        audit: audit.clone(),
        journal: journal.clone(),
        admin: Some(operator::admin_parts(
            &config,
            ServerOperator::new(
                delivery.clone(),
                gatekeeping.identities.clone(),
                (reload.clone(), trigger.clone()),
                cluster,
            ),
        )?),
        gatekeeper: gatekeeping.gatekeeper.clone(),
        dialect,
        tls,
        relays,
        canary_key: canary.as_ref().map(CanaryPlan::key),
    };
    let edge = Edge::bind_with(edge_settings, terms, parts_of_edge, inherited)?;
    let sockets = edge.hand_over().map_err(AppError::system("keep the listening sockets for a successor"))?;
    let addresses: Vec<ListenAddress> = edge.addresses().cloned().collect();
    if let Some(admin) = edge.admin_address() {
        tracing::info!(address = %admin, "the operator's listener serves metrics, health and the operator's calls");
    }

    let mut parts = VitalParts::default();
    threads.into_handles().into_iter().for_each(|shard| parts.watch(shard));
    if !lines.is_empty() {
        let (stopped, delivery) = (stopped.clone(), delivery.clone());
        let show = move |view: ViewId, reader: Reader| {
            delivery.begin_epoch(view, &reader);
            delayed[usize::from(view.0) - 1].begin(reader);
        };
        let run = move || lines.run(clock, &stopped, &show);
        parts.start("delay", run).map_err(AppError::system("start the delayed views"))?;
    }
    for worker in workers {
        parts.start("spool", move || worker.run()).map_err(AppError::system("start a spool"))?;
    }
    if let Some(host) = host {
        let (runtime, stopped) = (parts::runtime().map_err(AppError::system("start a runtime"))?, stopped.clone());
        let run = move || {
            parts::drive(runtime, host.run(stopped));
            Ok(())
        };
        parts.start("relays", run).map_err(AppError::system("start what serves relays"))?;
    }
    let mut archive_control = None;
    if let Some((archive, terms)) = archive.zip(archiving::terms(&config)) {
        let (control, record) = archiving::recording(archive, clock, stopped.clone());
        parts.start("archive", record).map_err(AppError::system("start the archive"))?;
        archive_control = Some((terms, control));
    }
    let simulate = |parts: &mut VitalParts| start_simulator(config.simulate, parts, faults.clone(), stopped.clone());
    let (runtime, feed_faults) = (parts::runtime().map_err(AppError::system("start a runtime"))?, faults.clone());
    let mut feed_control = None;
    let start_feed: Box<dyn FnOnce() -> io::Result<()> + Send> = match source {
        BusWriter::Own(publisher, clients) => {
            let connect = connector(&config, (feed_settings, chosen), (clock, &meters), || simulate(&mut parts))?;
            let (upstream, stopped) = (connect(*publisher, clients.clone())?, stopped.clone());
            let (control, calls) = FeedControl::open();
            feed_control = Some(control);
            let feed = PausableFeed {
                connect,
                clients,
                reader: reader.clone(),
                archive: archive_control,
                gaps_max: limits.ring_frames_max / 4,
                clock,
                meters: meters.clone(),
            };
            Box::new(move || parts::drive(runtime, feed_faults.run("feed", feed.run(upstream, calls, stopped))))
        }
        BusWriter::Cluster(drive, orders) => {
            let connect = connector(&config, (feed_settings, chosen), (clock, &meters), || simulate(&mut parts))?;
            let (told, shows) = (stopped.clone(), show_epoch(&delivery, shown.clone(), says));
            parts.start("cluster", move || drive(told, shows)).map_err(AppError::system("start the cluster's node"))?;
            let in_turns = feed_in_turns(orders, connect, stopped.clone());
            Box::new(move || parts::drive(runtime, feed_faults.run("feed", in_turns)))
        }
        BusWriter::Parent(drive) => {
            let shows = show_epoch(&delivery, shown.clone(), says);
            Box::new(move || drive(stopped, shows))
        }
    };
    let first_phase = if predecessor.is_some() { Phase::Waiting } else { Phase::Serving };
    let (phase, phases) = watch::channel(first_phase);
    if let Some(canary) = canary {
        let around =
            CanarySurroundings { shown: shown.clone(), clock, phases: phases.clone(), stopped: stop.subscribe() };
        let started = canary.into_run(&addresses, around).map_err(io::Error::other);
        let started = started.and_then(|run| parts.start("canary", run));
        started.map_err(AppError::system("start the canary"))?;
    }
    let edge_faults = faults.clone();
    let serve = move || serve_http(async move { edge_faults.run("edge", edge.serve(phases)).await });
    parts.start("edge", serve).map_err(AppError::system("start the edge"))?;
    parts.start("feed", start_feed).map_err(AppError::system("start the feed"))?;
    let meters = HandoverMeters::new(&meters);
    let handover = Handover { program, feed: feed_control, spool_lock, shown, service, meters };
    let server = RunningServer {
        parts,
        delivery,
        vitals,
        phase,
        stop,
        faults,
        audit,
        journal,
        reload,
        handover,
        sockets,
        trigger,
        requests,
        successor: None,
    };
    Ok((server, addresses))
}

/// Brings another epoch of the live log to all who read it, and tells relays of this server.
fn show_epoch(
    delivery: &Arc<Delivery>,
    shown: ShownLog,
    says: Option<watch::Sender<Option<ParentGreeting>>>,
) -> ShowEpoch {
    let delivery = delivery.clone();
    Box::new(move |reader| {
        let epoch = reader.epoch().0;
        delivery.begin_epoch(ViewId::LIVE, &reader);
        shown.begin(reader);
        if let Some(says) = &says {
            says.send_modify(|greeting| greeting.iter_mut().for_each(|greeting| greeting.epoch = epoch));
        }
    })
}

/// Whether two processes must not feed their clients at a time: the archive has one owner, and some venues allow too few
/// connections. In a cluster they may.
fn is_for_one_process(config: &Config, profile: &Profile) -> bool {
    let wanted = 2 * config.upstream.legs.max(1) * config.upstream.connections.max(1);
    let venue_is = profile.connect.connections_max.is_some_and(|max| max < wanted);
    config.cluster.urls.is_empty() && (config.archive.dir.is_some() || venue_is)
}

/// Connects to the feed by the settings in force. Without a feed, to the simulated market: `simulate` starts it and returns
/// its URL, and it is reached through the same client as any other feed.
fn connector(
    config: &Config,
    (feed, profile): (Option<Arc<FeedSettings>>, Profile),
    (clock, meters): (Clock, &Meters),
    simulate: impl FnOnce() -> Result<String, AppError>,
) -> Result<impl Fn(Publisher, ClientInput) -> Result<Upstream, UpstreamError> + Send + 'static, AppError> {
    profile.check_client_requests(!config.upstream.send.is_empty(), config.upstream.request)?;
    let feed = match feed {
        Some(feed) => feed,
        None => Arc::new(FeedSettings::new(config, profile, simulate()?, clock)),
    };
    let meters = meters.clone();
    Ok(move |publisher, ClientInput { interest, requests }| {
        let settings = UpstreamSettings { interest, requests: Some(requests), ..feed.settings() };
        Upstream::new(settings, publisher, clock, &meters)
    })
}
