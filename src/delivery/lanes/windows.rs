//! Shared windows of lanes: when a lane gets one, what goes through it, when it is closed. `Lanes` alone counts them.

use crate::delivery::chunk::Chunk;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::SlotList;
use crate::delivery::lanes::lane_key::CompressionMode;
use crate::delivery::lanes::stream::Due;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::lanes::window;
use crate::delivery::settings::WindowSettings;
use crate::protocol::encoding::Encoder;
use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::token::{Mark, Stream};
use shared_deflate::window::SharedWindow;

impl Lanes {
    /// Called before frames that begin at this position of the lane's stream: opens a window for the lane if it pays, and
    /// takes on board all sessions in step that have what it may refer to. Returns the first slot they have there, if any
    /// have; then those that stay in step have other slots, too.
    pub fn board(&mut self, id: LaneId, position: u64, level: u32, settings: &WindowSettings) -> Option<u32> {
        let lane = &mut self.lanes[id.0 as usize];
        let in_step = lane.in_step.len();
        if !lane.key.compression.takes_window() || in_step == 0 {
            return None;
        }
        if lane.window.is_none() && in_step >= settings.members_min && self.windows < settings.windows_max {
            lane.window = Some(SharedWindow::new(Deflater::new(level, WINDOW_BITS_MAX), position));
            self.windows += 1;
        }
        let window = lane.window.as_mut()?;
        if window.members().is_empty() {
            window.restart(position);
        }
        let (first, mut slot) = (window.members().len(), 0);
        while slot < lane.in_step.len() {
            if window.takes(lane.arrived[slot], position) {
                lane.arrived.swap_remove(slot);
                window.board(lane.in_step.swap_remove(slot));
            } else {
                slot += 1;
            }
        }
        (window.members().len() > first).then_some(first as u32)
    }

    /// The frames as one chunk for all on board; none if there are no such sessions.
    pub fn window_chunk(&mut self, id: LaneId, due: &[Due<'_>], encoder: &mut Encoder) -> Option<Chunk> {
        let lane = self.lane_mut(id);
        let window = lane.window.as_mut().filter(|window| !window.members().is_empty())?;
        Some(match lane.key.compression {
            CompressionMode::Gzip => window::part(window, due, &lane.key, encoder),
            _ => window::chunk(window, due, &lane.key, encoder),
        })
    }

    /// Where the stream is of all that the lane's sessions were sent alike.
    pub fn stream_position(&self, id: LaneId) -> u64 {
        self[id].stream.as_ref().map_or(0, Stream::position)
    }

    /// These frames were sent to all in step, in whatever encoding, as parts of one stream.
    pub fn pass(&mut self, id: LaneId, due: &[Due<'_>], encoder: &mut Encoder) {
        let Some(lane) = self.lanes.get_mut(id.0 as usize) else { return };
        let text = lane.key.text();
        let Some(stream) = &mut lane.stream else { return };
        for due in due {
            // They refer to what is shared, of whatever topic.
            stream.pass(&mut Mark::default(), due.frame.encoded(text, encoder).bytes.len());
        }
    }

    /// All in step were sent something that is no part of the lane's stream, and read all as one: nothing from before may
    /// be referred to. All are in step without the window from the slot that is given on.
    pub fn interrupt(&mut self, id: LaneId) -> Option<u32> {
        let position = self.stream_position(id);
        let lane = self.lanes.get_mut(id.0 as usize).filter(|lane| lane.key.compression == CompressionMode::Gzip)?;
        let first = lane.in_step.len() as u32;
        if let Some(window) = lane.window.take() {
            self.windows -= 1;
            lane.in_step.extend(window.into_members());
        }
        lane.arrived.clear();
        lane.arrived.resize(lane.in_step.len(), position);
        Some(first)
    }

    /// Lanes whose window no longer pays.
    pub fn with_poor_window(&self, members_min: usize) -> Vec<LaneId> {
        let poor = self.iter().filter(|(_, lane)| lane.window.is_some() && (lane.members as usize) * 2 < members_min);
        poor.map(|(id, _)| id).collect()
    }

    /// Takes the window from the lane; all on board are in step without it. Gives the first slot that they have there.
    pub fn close_window(&mut self, id: LaneId) -> u32 {
        let lane = &mut self.lanes[id.0 as usize];
        let first = lane.in_step.len() as u32;
        if let Some(window) = lane.window.take() {
            self.windows -= 1;
            let known_since = lane.stream.as_ref().map_or(0, |stream| window.known_since(stream.position()));
            lane.in_step.extend(window.into_members());
            lane.arrived.resize(lane.in_step.len(), known_since);
        }
        first
    }

    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Sessions that are on board of a window.
    pub fn boarded(&self) -> usize {
        self.iter().map(|(_, lane)| lane.slots(SlotList::Boarded).len()).sum()
    }
}
