//! Another epoch is another bus. Clients see the one before, as stale, until the new one has all that it begins with.

use backbone::turn::NodeReadiness;
use feed_log::entry::LogEntry;

use crate::bus::log::snapshot::TopicChoice;
use crate::bus::retained_topic::retained_topics;
use crate::cluster::applier::Applier;
use crate::cluster::backbone_io::Backbone;
use crate::cluster::runner::Core;
use crate::words::ids::Epoch;
use crate::words::stamp::Stamp;

impl<B: Backbone> Core<B> {
    /// The log goes on without a break in another epoch: this node has all that it begins with.
    pub(super) fn go_on_in_epoch(&mut self, entry: &LogEntry, now: Stamp) {
        let epoch = entry.header.epoch;
        let values =
            self.applier.as_ref().filter(|(_, reader)| reader.epoch().0 != epoch).and_then(|(applier, reader)| {
                // A snapshot is of a later place.
                let has_all = self.snapshot.is_none();
                has_all.then(|| {
                    (retained_topics(&reader.snapshot(&TopicChoice::new(&[]), &mut |_| {})), applier.feed().clone())
                })
            });
        self.leave_other_epoch(epoch);
        if let Some((topics, feed)) = values {
            let before = entry.header.first.saturating_sub(1);
            self.applier(epoch).begin_anew(topics, feed, before, now);
        }
    }

    /// What comes next is of this epoch. Clients see the one before until all of it is here.
    pub(super) fn leave_other_epoch(&mut self, epoch: u64) {
        let Some((applier, before)) = self.applier.take_if(|(_, reader)| reader.epoch().0 != epoch) else { return };
        if self.shows.is_none() {
            return applier.give_way();
        }
        tracing::warn!(
            epoch = %Epoch(epoch), before = %before.epoch(),
            "the log has begun another epoch, because it has lost messages that nobody had kept, or has two histories, or \
             because its server was started again without them; clients begin anew"
        );
        if self.outdated.is_none() {
            self.outdated = Some(applier);
        } else {
            applier.give_way();
        }
    }

    /// Clients see the newest epoch once all of it is here.
    pub(super) fn show_epoch(&mut self) {
        if self.readiness == NodeReadiness::Ready
            && let (Some((_, reader)), Some(shows)) = (&self.applier, &self.shows)
            && let Some(outdated) = self.outdated.take()
        {
            shows(reader.clone());
            outdated.give_way();
        }
    }

    pub(super) fn applier(&mut self, epoch: u64) -> &mut Applier {
        let open = || {
            let (publisher, reader) = (self.runner.buses.shown)(Epoch(epoch));
            // The newest frames come first then, and its values later.
            let mut applier = Applier::new(publisher, self.snapshot.is_some(), self.runner.words);
            if self.shows.is_some() {
                applier.cut_off(self.readiness != NodeReadiness::Ready, self.runner.clock.now());
            }
            (applier, reader)
        };
        &mut self.applier.get_or_insert_with(open).0
    }
}
