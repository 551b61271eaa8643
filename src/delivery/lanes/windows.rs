//! Shared windows of lanes: when a lane gets one, what goes through it, when it is closed. `Lanes` alone counts them.

use crate::delivery::chunk::Chunk;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::SlotList;
use crate::delivery::lanes::stream::Due;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::lanes::window;
use crate::delivery::settings::WindowSettings;
use crate::protocol::encoding::Encoder;

impl Lanes {
    /// Called before this many frames: opens a window for the lane if it pays, and cuts it if that pays; then all
    /// sessions in step board. Returns the first slot they have there.
    pub fn cut_window(&mut self, id: LaneId, frames: usize, level: u32, settings: &WindowSettings) -> Option<u32> {
        let lane = &mut self.lanes[id.0 as usize];
        let waiting = lane.in_step.len();
        if !lane.key.compression.takes_window() || waiting == 0 {
            return None;
        }
        if lane.window.is_none() && waiting >= settings.members_min && self.windows < settings.windows_max {
            lane.window = Some(window::open(level, settings));
            self.windows += 1;
        }
        let mut cut = lane.window.as_mut()?.cut_for(waiting, frames)?;
        let slots = lane.in_step.drain(..).map(|session| cut.board(session) as u32);
        slots.reduce(|first, _| first)
    }

    /// The frames as one chunk for all on board; none if there are no such sessions.
    pub fn window_chunk(&mut self, id: LaneId, due: &[Due<'_>], encoder: &mut Encoder) -> Option<Chunk> {
        let lane = self.lane_mut(id);
        let window = lane.window.as_mut().filter(|window| !window.members().is_empty())?;
        Some(window::chunk(window, due, &lane.key, encoder))
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
            lane.in_step.extend(window.into_members());
            if let Some(stream) = &mut lane.stream {
                stream.arrive();
            }
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
