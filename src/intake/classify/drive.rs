//! Drives a classifier as the pipeline does, where there is no pipeline: in tests, and for messages in a file.

use crate::profile::Profile;
use crate::words::stamp::Stamp;

use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage, FoundUpdates};
use crate::intake::update::Update;

/// Observer of a classifier's findings.
pub(crate) trait Onlooker {
    fn update(&mut self, update: &Update<'_>);
    fn classified(&mut self, classified: &Classified, message: &FeedMessage<'_>);
}

/// One frame, and the messages that it releases.
pub(crate) fn take(classifier: &mut Classifier, frame: FeedFrame<'_>, received: Stamp, look: &mut impl Onlooker) {
    let (mut unpacked, mut found) = (Vec::new(), FoundUpdates::default());
    for message in classifier.decoder().decode(frame, &mut unpacked) {
        if let Some(classified) = classifier.classify(&message, received, &mut found) {
            found.updates(message.bytes(), classifier, received).for_each(|update| look.update(&update));
            look.classified(&classified, &message);
        }
        take_waited(classifier, look);
    }
}

/// Messages whose wait is over.
pub(crate) fn take_waited(classifier: &mut Classifier, look: &mut impl Onlooker) {
    let mut found = FoundUpdates::default();
    while let Some(waited) = classifier.next_waited(&mut found) {
        let message = FeedMessage::Text(&waited.text);
        found.updates(message.bytes(), classifier, waited.received).for_each(|update| look.update(&update));
        look.classified(&waited.classified, &message);
    }
}

impl Classifier {
    /// For the messages of the feed's own URL.
    pub fn new(profile: &Profile) -> Classifier {
        Classifier::of_branch(profile, 0)
    }
}
