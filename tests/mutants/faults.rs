//! The faults: each one a mistake that somebody could make, and the cheapest tests that must notice it.
//!
//! Texts are as short as they can be and still occur once in their file, so that few changes of the code reach them.

/// Which tests: what Cargo builds them by (`-p PACKAGE --lib`, `--test NAME`), and what their names contain.
type Tests = (&'static str, &'static str);

/// One mistake: `old` occurs once in `file` and is replaced by `new`.
pub struct Fault {
    pub file: &'static str,
    pub old: &'static str,
    pub new: &'static str,
    pub tests: Tests,
}

/// Mistakes about one promise.
pub struct Kind {
    pub name: &'static str,
    pub faults: &'static [Fault],
}

const fn fault(file: &'static str, old: &'static str, new: &'static str, tests: Tests) -> Fault {
    Fault { file, old, new, tests }
}

const SIMULATION: Tests = ("-p fanline --lib", "delivery::simulation");
const DELIVERY: Tests = ("-p fanline --lib", "delivery::");
const WINDOW: Tests = ("-p shared-deflate --lib", "window::");
const TOKEN: Tests = ("-p shared-deflate --lib", "token::");
const COMMANDS: Tests = ("-p fanline --lib", "delivery::s");
const RETAINED: Tests = ("-p fanline --lib", "bus::retained");
const PUBLISHER: Tests = ("-p fanline --lib", "bus::publisher");
const DEMAND: Tests = ("-p fanline --lib", "bus::demand");
const ARBITRATE: Tests = ("-p fanline --lib", "intake::arbitrate");
const ASSEMBLE: Tests = ("-p fanline --lib", "intake::assemble");
const CONNECTION: Tests = ("-p fanline --lib", "intake::connection");
const ASSIGNMENT: Tests = ("-p fanline --lib", "intake::upstream::assignment");
const LISTEN: Tests = ("-p fanline --lib", "edge::listen");
const ORIGINS: Tests = ("-p fanline --lib", "edge::http::origins");
const HANDOVER: Tests = ("--test handover", "kinds");
const IDENTITY: Tests = ("-p fanline --lib", "identity::");
const AUDIT: Tests = ("-p fanline --lib", "audit");
const VIEW_CHANGE: Tests = ("-p fanline --lib", "delivery::shard::view_change");
const BACKBONE: Tests = ("-p backbone --lib", "simulation::cases::no_offset");
const VENUE: Tests = ("-p fanline --lib", "intake::venue_age");
const SIGHT: Tests = ("-p fanline --lib", "app::canary");
const WORDS: Tests = ("-p fanline --lib", "words::");

pub const KINDS: &[Kind] = &[
    Kind { name: "splice", faults: SPLICE },
    Kind { name: "boarding", faults: BOARDING },
    Kind { name: "tokens", faults: TOKENS },
    Kind { name: "catch-up", faults: CATCH_UP },
    Kind { name: "skip accounting", faults: SKIPS },
    Kind { name: "retained values", faults: RETENTION },
    Kind { name: "arbitration", faults: ARBITRATION },
    Kind { name: "gap rules", faults: GAPS },
    Kind { name: "assembling", faults: ASSEMBLING },
    Kind { name: "backoff", faults: BACKOFF },
    Kind { name: "admission", faults: ADMISSION },
    Kind { name: "who it is", faults: CLIENTS },
    Kind { name: "matching", faults: MATCHING },
    Kind { name: "limits", faults: LIMITS },
    Kind { name: "demand", faults: DEMANDS },
    Kind { name: "assignment", faults: ASSIGNMENTS },
    Kind { name: "identity", faults: IDENTITIES },
    Kind { name: "audit", faults: AUDITS },
    Kind { name: "hand-over", faults: HANDOVERS },
    Kind { name: "snapshots of a server", faults: SNAPSHOTS },
    Kind { name: "watching", faults: WATCHING },
];

const SCAN: &str = "src/delivery/catch_up/scan.rs";
const REPLAY: &str = "src/delivery/catch_up/replay.rs";
const TURNS: &str = "src/delivery/shard/catch_up.rs";
const MOVES: &str = "src/delivery/sessions/moves.rs";
const LANE: &str = "src/delivery/lanes/lane.rs";
const TOPICS: &str = "src/delivery/lanes/topics.rs";
const STREAM: &str = "src/delivery/lanes/stream.rs";
const PACED: &str = "src/delivery/lanes/paced.rs";
const CHANGES: &str = "src/delivery/lanes/changes.rs";
const CODEC_STREAM: &str = "crates/shared-deflate/src/token/stream.rs";
const LOG_CURSOR: &str = "src/delivery/shard/log_cursor.rs";
const WINDOWS: &str = "src/delivery/lanes/windows.rs";
const COMMAND: &str = "src/protocol/command.rs";
const ROUNDS: &str = "src/delivery/shard/rounds.rs";
const TOPIC_INDEX: &str = "src/delivery/lanes/topic_index.rs";
const SHARED_WINDOW: &str = "src/delivery/lanes/window.rs";
const CODEC_WINDOW: &str = "crates/shared-deflate/src/window.rs";
const KEPT: &str = "src/bus/retained.rs";
const PEER_SNAPSHOT: &str = "crates/backbone/src/follower/snapshot.rs";
const ARBITER: &str = "src/intake/arbitrate/arbiter.rs";
const TRACK: &str = "src/intake/arbitrate/topic_track.rs";
const SEQUENCE: &str = "src/intake/assemble/sequence.rs";
const TOPIC: &str = "src/intake/assemble/topic.rs";
const BOOK: &str = "src/intake/assemble/book.rs";
const BACK: &str = "src/intake/connection/backoff.rs";
const FORWARDED: &str = "src/edge/listen/forwarded.rs";
const PEER: &str = "src/edge/listen/peer.rs";
const PROXY_PROTOCOL: &str = "src/edge/listen/proxy_protocol.rs";
const PAGES: &str = "src/edge/http/origins.rs";
const NETWORKS: &str = "src/access/network_counts.rs";
const ADMIT: &str = "src/edge/listen/admission.rs";
const CONNECTIONS: &str = "src/edge/listen/connection_table.rs";
const PATTERNS: &str = "src/words/patterns.rs";
const NAMES: &str = "src/words/topic.rs";
const INTEREST: &str = "src/bus/demand/interest/mod.rs";
const TABLE: &str = "src/bus/demand/interest/table.rs";

const SPLICE: &[Fault] = &[
    // The snapshot holds frames that the stream brings again.
    fault(SCAN, "take_while(|frame| frame.offset <= until)", "take_while(|_| true)", SIMULATION),
    // A changed subscription brings again what the session has.
    fault(SCAN, "|reached, (_, sent)| reached.max(*sent)", "|reached, _| reached", SIMULATION),
    // No current values for a new subscription.
    fault(MOVES, "until: cursor, known", "until: Offset::START, known", SIMULATION),
    // The rest of a snapshot is lost behind its first slice.
    fault(SCAN, "scan.reached = *offset;", "scan.reached = scan.until;", DELIVERY),
    // A topic that two patterns of a lane match is delivered twice.
    fault(TOPIC_INDEX, "lanes.dedup();", "", SIMULATION),
    // A shard that starts over misses what was published first after its cursor.
    fault(LOG_CURSOR, "retained.newest().offset > since)", "retained.newest().offset > since.next())", SIMULATION),
];

const BOARDING: &[Fault] = &[
    // A session boards without the text that the window refers to.
    fault(CODEC_WINDOW, "arrived <= self.known_since(position)", "arrived <= position", WINDOW),
    // A window that begins anew refers to what came before.
    fault(CODEC_WINDOW, "        self.deflater.cut();\n", "", WINDOW),
    // All that board have the place of the first.
    fault(MOVES, "SyncState::Boarded { slot };", "SyncState::Boarded { slot: slot * 0 };", SIMULATION),
    // Those that stay in step keep slots that others have.
    fault(MOVES, "        self.set_disembarked(lane, 0);\n", "", DELIVERY),
    // Notices enter the window.
    fault(SHARED_WINDOW, "if frame.is_status() {", "if false {", SIMULATION),
    // A window that is closed goes on counting, so that in the end there is none for anyone.
    fault(
        WINDOWS,
        "            self.windows -= 1;\n            let known_since",
        "            let known_since",
        SIMULATION,
    ),
    // One that nobody was on board of is taken for one that has gone on.
    fault(WINDOWS, "            window.restart(position);\n", "", DELIVERY),
];

const TOKENS: &[Fault] = &[
    // What came before a session is referred to.
    fault(LANE, "self.arrived.push(stream.position());", "self.arrived.push(0);", SIMULATION),
    fault(LANE, "            self.arrived.swap_remove(slot);\n", "            self.arrived.pop();\n", SIMULATION),
    fault(CODEC_STREAM, "u32::from(distance) <= horizon.known && ", "", TOKEN),
    // The window is taken for a larger one.
    fault(CODEC_STREAM, " && furthest <= horizon.window.into()", "", TOKEN),
    fault(CODEC_STREAM, "if tokens.own_distance_max() > horizon.window {", "if false {", TOKEN),
    // A text counts where none was compressed, or does not where one was.
    fault(TOPICS, "if !text.frame.is_status() {", "if true {", SIMULATION),
    fault(STREAM, "Some(deflated) if deflated.is_compressed() =>", "Some(deflated) =>", SIMULATION),
    // The text is as long as the whole frame.
    fault(
        TOPICS,
        "self.frame.encoded(plain, self.encoder).text().len()",
        "self.frame.encoded(plain, self.encoder).bytes.len()",
        SIMULATION,
    ),
    // A paced lane refers to what it has not sent.
    fault(PACED, "reference: Reference::Sent(before)", "reference: Reference::Topic", SIMULATION),
    // Values that a changed list brings are taken for what later messages refer to.
    fault(CHANGES, "is_newest && ", "", SIMULATION),
    // A list changes in place for others, too.
    fault(LANE, "self.members == 1 && ", "", SIMULATION),
    // The message before is that of another topic.
    fault(
        "src/bus/publisher.rs",
        "std::mem::replace(&mut self.newest[topic.id.index()], offset)",
        "offset.0.checked_sub(1).map_or(Offset::START, Offset)",
        SIMULATION,
    ),
];

const CATCH_UP: &[Fault] = &[
    // What a base has superseded is replayed.
    fault(REPLAY, "Ordering::Less if is_part => None", "Ordering::Less if is_part => Some(frame)", SIMULATION),
    // A client that resumes at a base gets only the last change.
    fault(REPLAY, "Ordering::Equal => Some(base.whole())", "Ordering::Equal => Some(frame)", SIMULATION),
    // A client that resumes is not told of a gap between values.
    fault(REPLAY, "!matches!(base.kind, FrameKind::Value { .. })", "true", SIMULATION),
    // A frame between walk and stream is lost.
    fault(REPLAY, "        catch_up.cursor = next;", "        catch_up.cursor = next.next();", SIMULATION),
    // A paced session gets again what it had before it fell behind.
    fault(TURNS, "sent > lane.position(cursor)", "sent < lane.position(cursor)", SIMULATION),
    // A client of another epoch is taken for one of this one, and the other way round.
    fault(COMMAND, "since.epoch != epoch", "since.epoch == epoch", DELIVERY),
    // A cursor at the head is refused.
    fault(COMMAND, "if since.offset > head {", "if since.offset >= head {", DELIVERY),
    // Lossless clients are skipped over, others are not.
    fault(TURNS, "policy == Policy::Lossless", "policy != Policy::Lossless", SIMULATION),
];

const SKIPS: &[Fault] = &[
    // Nothing is said of what was skipped.
    fault(TURNS, "if newest <= from && ", "if ", SIMULATION),
    // The range begins with a frame that was delivered, or ends before its last.
    fault(TURNS, "from: from.next(), to", "from, to", SIMULATION),
    fault(TURNS, "to: position, reason", "to: from.next(), reason", SIMULATION),
    // The wrong one is blamed.
    fault(TURNS, "(\"slow\", ", "(\"overrun\", ", SIMULATION),
    fault(TURNS, "(\"expired\", ", "(\"slow\", ", SIMULATION),
    fault(ROUNDS, "catch_up.cause = CatchUpCause::Overrun;", "", SIMULATION),
    // Skips are not counted.
    fault(TURNS, "counter.increment(1);", "counter.increment(0);", SIMULATION),
];

const RETENTION: &[Fault] = &[
    fault(KEPT, "frame.offset <= after)", "frame.offset < after)", RETAINED),
    // A snapshot does not end what was before it.
    fault(
        KEPT,
        "FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) } => {\n                self.clear();",
        "FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) } => {",
        RETAINED,
    ),
    fault(KEPT, "> DELTAS_MAX ||", "> DELTAS_MAX + 1 ||", RETAINED),
    fault(KEPT, "self.kept.len() >= usize::from(*keep)", "self.kept.len() > usize::from(*keep)", RETAINED),
    // A topic of deltas is forgotten, and clients apply the next delta to what was before.
    fault("src/bus/latest.rs", "} else if current.builds_up && ", "} else if false && ", PUBLISHER),
    // A silent topic is never forgotten.
    fault("src/bus/latest.rs", "newest.offset >= tail", "newest.offset >= Offset::START", PUBLISHER),
    // Of each gap in a row something stays.
    fault(KEPT, "            self.kept.pop_back();", "", RETAINED),
];

const ARBITRATION: &[Fault] = &[
    // A second copy is published.
    fault(ARBITER, "count <= seen.published", "count < seen.published", ARBITRATE),
    fault(TRACK, "(true, _) => Relation::Old", "(true, _) => Relation::Next", ARBITRATE),
    fault(ARBITER, "number > last || (number == last && track.snapshot != Some(number))", "true", ARBITRATE),
    // The second gap waits no longer than the first.
    fault(
        ARBITER,
        "if relation == Relation::Ahead {\n                track.missing_since_ns = pending.received.mono_ns;",
        "if relation == Relation::Ahead {",
        ARBITRATE,
    ),
    fault(ARBITER, "pending > PENDING_MAX ||", "pending > 2 * PENDING_MAX ||", ARBITRATE),
    // A topic of changes follows two connections at once.
    fault(ARBITER, "(update.snapshot && owner.leg == source.leg)", "update.snapshot", ARBITRATE),
    // Nobody takes over from a connection that is lost.
    fault(ARBITER, "track.owner = None;\n                orphans", "orphans", ARBITRATE),
    // Late copies turn the count back.
    fault(TRACK, "(update.snapshot || quiet_ns > LATE_NS)", "true", ARBITRATE),
    fault(ARBITER, "Release::Late;", "Release::InOrder;", ARBITRATE),
    fault(ARBITER, "age_ns.saturating_add(WINDOW_NS) > now_ns", "now_ns > 0", ARBITRATE),
];

const GAPS: &[Fault] = &[
    fault(SEQUENCE, "u64::try_from(last - next)", "u64::try_from(last - before)", ASSEMBLE),
    fault(SEQUENCE, "if first > next =>", "if first >= next =>", ASSEMBLE),
    fault(SEQUENCE, "if prev == before => GapVerdict::Next", "if prev <= before => GapVerdict::Next", ASSEMBLE),
    fault(SEQUENCE, "self.old >= OLD_MAX", "self.old > OLD_MAX", ASSEMBLE),
    // A chain that proves nothing passes for a proof that nothing is missing.
    fault(TOPIC, "!(proven && verdict == Some(GapVerdict::Next))", "verdict != Some(GapVerdict::Next)", ASSEMBLE),
    fault(TOPIC, "if remedy != GapRemedy::Mark {", "if remedy == GapRemedy::Reconnect {", ASSEMBLE),
    // A snapshot does not begin a new count.
    fault(
        TOPIC,
        "if update.snapshot {\n            self.sequence.reset(update.numbers);",
        "if update.snapshot {",
        ASSEMBLE,
    ),
    fault(
        TOPIC,
        "(Some(GapVerdict::Old), _) => Disposition::Late",
        "(Some(GapVerdict::Old), _) => Disposition::Drop",
        ASSEMBLE,
    ),
];

const ASSEMBLING: &[Fault] = &[
    // A whole value is rendered across a gap.
    fault(
        TOPIC,
        "        if let Some(log) = &mut self.log {\n            log.unfold(budget);\n        }\n",
        "",
        ASSEMBLE,
    ),
    fault(TOPIC, "if disposition == Disposition::Publish\n", "if disposition != Disposition::Drop\n", ASSEMBLE),
    fault(TOPIC, "self.bytes > self.whole_bytes", "self.bytes > 2 * self.whole_bytes", ASSEMBLE),
    fault(TOPIC, "*budget.folded_bytes -= fold.bytes();", "", ASSEMBLE),
    // Levels that are gone stay, asks are sorted as bids, a level too many is kept.
    fault(
        BOOK,
        "(Ok(place), true) => self.bytes -= self.levels.remove(place).bytes()",
        "(Ok(_), true) => {}",
        ASSEMBLE,
    ),
    fault(BOOK, "{ by_price.reverse() }", "{ by_price }", ASSEMBLE),
    fault(BOOK, "saturating_sub(self.depth)", "saturating_sub(self.depth.saturating_add(1))", ASSEMBLE),
    fault("src/intake/assemble/merge.rs", "self.members.remove(place);", "let _ = place;", ASSEMBLE),
    // Carried fields stay those of the snapshot.
    fault(
        "src/intake/assemble/fold.rs",
        "Some(found) if **carried != *found.token => *carried = found.token.into(),",
        "",
        ASSEMBLE,
    ),
];

const BACKOFF: &[Fault] = &[
    fault(BACK, "(1 << self.attempts.min(30))", "(1)", CONNECTION),
    // Everyone comes back at the same moment.
    fault(BACK, "Duration::ZERO..=ceiling", "ceiling..=ceiling", CONNECTION),
    fault(BACK, "wait.max(wanted)", "wait.min(wanted)", CONNECTION),
    fault(BACK, "wanted.min(RETRY_AFTER_MAX)", "wanted", CONNECTION),
    fault(BACK, "(self.attempts, self.bans) = (0, 0);", "self.attempts = 0;", CONNECTION),
    fault("src/intake/connection/rate_limit.rs", "rate.period + rate.period / 50", "rate.period", CONNECTION),
];

const ADMISSION: &[Fault] = &[
    fault(ADMIT, ".sessions >= ledger.sessions_max", ".sessions > ledger.sessions_max", LISTEN),
    fault(ADMIT, "*taken >= *max)", "*taken > *max)", LISTEN),
    // Ended sessions keep their places.
    fault(ADMIT, ".sessions -= 1;", ".sessions -= 0;", LISTEN),
    fault(NETWORKS, "u128::MAX << 64", "u128::MAX << 48", LISTEN),
    fault(CONNECTIONS, "held >= max)", "held > max)", LISTEN),
    fault(
        CONNECTIONS,
        ".idle.values().chain(ledger.pending.values())",
        ".pending.values().chain(ledger.idle.values())",
        LISTEN,
    ),
    fault(CONNECTIONS, ">= GRACE", ">= Duration::ZERO", LISTEN),
];

const MATCHING: &[Fault] = &[
    fault(NAMES, "pattern[p..].iter().all(|&b| b == b'*')", "pattern.len() >= p", WORDS),
    fault(NAMES, "    topic_rest.is_none()", "    topic_rest.is_none() || !pattern.is_empty()", WORDS),
    fault(PATTERNS, "branches.any.visit(below, search)?;", "", WORDS),
    fault(PATTERNS, "glob.needs & !held != 0", "glob.needs & held == 0", WORDS),
];

const LIMITS: &[Fault] = &[
    fault(
        "src/delivery/sessions/inbound.rs",
        "self.messages >= settings.limits.messages_per_second_max",
        "self.messages > settings.limits.messages_per_second_max",
        COMMANDS,
    ),
    fault(
        "src/delivery/sessions/inbound.rs",
        " || self.message_bytes >= settings.limits.inbound_bytes_per_second_max",
        "",
        COMMANDS,
    ),
    fault(
        "src/delivery/sessions/inbound.rs",
        "by_age.sort_unstable_by_key(|(since_ns, _)| *since_ns);",
        "by_age.sort_unstable_by_key(|(since_ns, _)| u64::MAX - *since_ns);",
        COMMANDS,
    ),
    fault(
        "src/delivery/sessions/pending_requests.rs",
        ".in_second >= per_second_max {",
        ".in_second > per_second_max {",
        COMMANDS,
    ),
    fault(
        "src/bus/publisher.rs",
        "self.living >= self.limits.topics_max",
        "self.living > self.limits.topics_max",
        PUBLISHER,
    ),
    // A client that takes nothing stays for ever.
    fault(
        "src/delivery/shard/sweep.rs",
        "} else if passed(session.blocked_ns(), self.settings.slow.write_deadline)",
        "} else if passed(0, self.settings.slow.write_deadline)",
        DELIVERY,
    ),
];

const DEMANDS: &[Fault] = &[
    fault(TABLE, "if want.claims > 1 {", "if want.claims > 2 {", DEMAND),
    fault(TABLE, "            self.wanted -= 1;\n", "", DEMAND),
    fault(TABLE, "want.known = true;", "want.known = false;", DEMAND),
    fault(INTEREST, "fresh.count() > self.bounds.topics_max", "fresh.count() >= self.bounds.topics_max", DEMAND),
    fault(INTEREST, "others + count > max", "others + count > max + 1", DEMAND),
];

const ASSIGNMENTS: &[Fault] = &[
    // New items go to a connection that is lost.
    fault(
        "src/intake/upstream/assignment.rs",
        "(load.state == LinkState::Lost, load.count)",
        "(load.state == LinkState::Open, load.count)",
        ASSIGNMENT,
    ),
    // An item is dropped where it came from before it has arrived where it goes.
    fault(
        "src/intake/upstream/assignment.rs",
        "self.moves.insert((name, to), from);",
        "self.moves.insert((name, from), to);",
        ASSIGNMENT,
    ),
];

const CLIENTS: &[Fault] = &[
    // Everyone may name himself.
    fault(PEER, "is_proxy: proxies.trusted.trusts(address)", "is_proxy: true", LISTEN),
    // A health check's headers count.
    fault(PEER, "Peer { is_proxy: false, ..self }", "self", LISTEN),
    // What the client says first counts.
    fault(FORWARDED, "let hops = items.iter().rev()", "let hops = items.iter()", LISTEN),
    fault(FORWARDED, "if !trusted.trusts(client)", "if trusted.trusts(client)", LISTEN),
    fault(FORWARDED, "elements.iter().rev().nth", "elements.iter().nth", LISTEN),
    // A byte of the client is taken for one of the header.
    fault(PROXY_PROTOCOL, "== b'\\r' { 1 } else { 2 }", "== b'\\r' { 2 } else { 2 }", LISTEN),
    fault(PROXY_PROTOCOL, "if bytes > REST_BYTES_MAX", "if bytes > 65535", LISTEN),
    // Another port of the same host is another page.
    fault(PAGES, "port: port.or(implied)", "port: implied", ORIGINS),
    fault(PAGES, "let null = !rules.requests_open &&", "let null =", ORIGINS),
    fault(PAGES, "Origins::Any => false,", "Origins::Any => true,", ORIGINS),
];

const IDENTITIES: &[Fault] = &[
    // One session more than the tier gives.
    fault("src/identity/places.rs", "staying >= max &&", "staying > max &&", IDENTITY),
    // A stolen ticket is good from any page.
    fault(
        "src/identity/tickets.rs",
        "(found.ends > now && found.origin.as_deref() == origin)",
        "(found.ends > now)",
        IDENTITY,
    ),
    fault(
        "src/identity/token/claims.rs",
        "begins_ms > now_ms.saturating_add(leeway)",
        "begins_ms > u64::MAX - 1",
        IDENTITY,
    ),
    // A delayed tier sees live what its token names.
    fault(
        "src/identity/tiers.rs",
        "if most.rights.view == own.view {",
        "if most.rights.view == most.rights.view {",
        IDENTITY,
    ),
];

const HANDOVERS: &[Fault] = &[
    // After a failure nobody has the feed.
    fault("src/app/handover/mod.rs", "            feed.resume();\n", "", HANDOVER),
    // A process that hears nothing takes over from one that does.
    fault("src/app/handover/mod.rs", "if !has_data && !*is_released &&", "if false &&", HANDOVER),
    // Two processes connect to a venue of one connection.
    fault("src/app/start.rs", "max < wanted", "max < wanted / 2", HANDOVER),
    // The file of a socket goes with the process that has handed it over.
    fault("src/app/handover/mod.rs", "|file| file.leave()", "|_| ()", HANDOVER),
    // All leave in the first wave.
    fault("src/delivery/shard/draining.rs", "waves.ended < waves.due", "waves.due < 1 << 60", DELIVERY),
];

const AUDITS: &[Fault] = &[
    // What is asked for again is free.
    fault("src/audit/queries.rs", "known.queries += 1;", "", AUDIT),
    // One address fills the disk.
    fault("src/audit/unidentified.rs", "|| of_network + weight > NETWORK_BYTES_MAX", "", AUDIT),
    fault(
        "src/delivery/shard/audit_events.rs",
        "session.is_recorded || session.access.identity().is_some()",
        "session.is_recorded",
        AUDIT,
    ),
    // A kick misses who changes the view.
    fault("src/delivery/shard/view_change.rs", "self.obey_missed(id, &orders_past, now);", "", VIEW_CHANGE),
    fault("src/delivery/shard/walks.rs", "walk.next <= id.0 &&", "walk.next < id.0 &&", VIEW_CHANGE),
];

const SNAPSHOTS: &[Fault] = &[
    // One of another history is taken.
    fault(
        PEER_SNAPSHOT,
        "(own.chain, own.epoch, own.next_offset) == (position.chain, position.epoch, position.next_offset)",
        "(own.epoch, own.next_offset) == (position.epoch, position.next_offset)",
        BACKBONE,
    ),
    // A server listens before it has all that its snapshot holds.
    fault(PEER_SNAPSHOT, "next_offset > place.offset => return", "true => return", BACKBONE),
    // An offset that no log reaches is believed.
    fault(
        PEER_SNAPSHOT,
        "(next - 1..next.saturating_add(BEYOND_MAX)).contains(&self.offset)",
        "self.offset >= next - 1",
        BACKBONE,
    ),
    // What fills the ring outdates what is retained.
    fault("src/bus/publisher/refill.rs", "if !self.retains_newer(&frame.topic.name, offset)", "if true", RETAINED),
];

const WATCHING: &[Fault] = &[
    // What answers a subscription is taken for late.
    fault("src/intake/venue_age.rs", "!self.has_seen(update.topic, generation)", "false", VENUE),
    fault("src/intake/venue_age.rs", "|| update.snapshot", "", VENUE),
    // A clock that is behind makes ages smaller than they are.
    fault("src/intake/venue_age.rs", "self.distrust_ns = received.mono_ns + DISTRUST_NS;", "", VENUE),
    // Whoever is connected and receives nothing is well.
    fault("src/app/canary/sight.rs", "if !self.is_blind(now)", "if true", SIGHT),
    fault("src/app/canary/sight.rs", "self.has_seen && self.is_blind(now)", "self.is_blind(now)", SIGHT),
    fault("src/delivery/shard/walks.rs", ".filter(|session| !session.is_canary)", "", ("--test program", "no_list")),
];
