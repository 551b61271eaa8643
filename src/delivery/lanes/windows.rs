//! Shared windows of lanes: when a lane gets one, what goes through it, when it is closed. `Lanes` alone counts them.

use crate::bus::frame::Frame;
use crate::delivery::chunk::Chunk;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::SlotList;
use crate::delivery::lanes::lane_key::CompressionMode;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::lanes::window::{Window, WindowSettings};
use crate::protocol::encoding::Encoder;

impl Lanes {
    /// Before so many frames: gives the lane a window if it pays, and cuts it if that pays. True if everyone in step
    /// may board now.
    pub fn prepare_window(&mut self, id: LaneId, frames: usize, level: u32, settings: &WindowSettings) -> bool {
        let lane = &mut self.lanes[id.0 as usize];
        let waiting = lane.in_step.len();
        if lane.key.compression != CompressionMode::Window || waiting == 0 {
            return false;
        }
        match &mut lane.window {
            Some(window) => window.cut_for(waiting, frames, settings),
            None if waiting >= settings.members_min && self.windows < settings.windows_max => {
                lane.window = Some(Window::new(level));
                self.windows += 1;
                true
            }
            None => false,
        }
    }

    /// The frames as one chunk for all on board; none if there are no such sessions.
    pub fn window_chunk(&mut self, id: LaneId, frames: &[&Frame], encoder: &mut Encoder) -> Option<Chunk> {
        let lane = self.lane_mut(id);
        let window = lane.window.as_mut().filter(|window| !window.boarded.is_empty())?;
        Some(window.chunk(frames, &lane.key, encoder))
    }

    /// Lanes whose window no longer pays.
    pub fn with_poor_window(&self, members_min: usize) -> Vec<LaneId> {
        let poor = self.iter().filter(|(_, lane)| lane.window.is_some() && (lane.members as usize) * 2 < members_min);
        poor.map(|(id, _)| id).collect()
    }

    /// Takes the window from the lane; no session may be on board.
    pub fn close_window(&mut self, id: LaneId) {
        let window = self.lane_mut(id).window.take();
        assert!(window.as_ref().is_none_or(|window| window.boarded.is_empty()), "nobody is left on board");
        self.windows -= usize::from(window.is_some());
    }

    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Sessions that are on board of a window.
    pub fn boarded(&self) -> usize {
        self.iter().map(|(_, lane)| lane.slots(SlotList::Boarded).len()).sum()
    }
}
