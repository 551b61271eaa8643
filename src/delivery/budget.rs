//! What a shard may do in one turn, counted in work and not in time.

/// Patterns tried on topics: 16,384 steps at about 40 ns keep a turn below a millisecond.
const MATCHES_PER_TURN: usize = 16 * 1024;
/// Topics and frames looked at for all sessions that catch up: 32,768 at 50 to 100 ns make a turn of about 3 ms.
const CATCH_UP_PER_TURN: usize = 32 * 1024;
/// Bytes of clients' messages, received, inflated and answered: two sessions' share. A message is never divided, so a
/// turn may end one message later: of 1 MiB at most, the bound of limits.message_bytes_max.
pub const MESSAGES_PER_TURN: usize = 2 * MESSAGES_PER_SESSION;
/// The same of one session, before it is the next one's turn: about 200 small commands, or one of 64 KiB.
pub const MESSAGES_PER_SESSION: usize = 128 * 1024;

/// Work of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_turn: usize,
    left: usize,
}

/// The budgets of a shard.
pub struct TurnBudgets {
    pub matches: Budget,
    pub catch_up: Budget,
    pub messages: Budget,
}

impl Budget {
    pub fn new(per_turn: usize) -> Budget {
        Budget { per_turn, left: per_turn }
    }

    pub fn per_turn(&self) -> usize {
        self.per_turn
    }

    pub fn left(&self) -> usize {
        self.left
    }

    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub fn spend(&mut self, work: usize) {
        self.left = self.left.saturating_sub(work);
    }

    fn refill(&mut self) {
        self.left = self.per_turn;
    }
}

impl Default for TurnBudgets {
    fn default() -> TurnBudgets {
        TurnBudgets {
            matches: Budget::new(MATCHES_PER_TURN),
            catch_up: Budget::new(CATCH_UP_PER_TURN),
            messages: Budget::new(MESSAGES_PER_TURN),
        }
    }
}

impl TurnBudgets {
    /// Begins a turn.
    pub fn refill(&mut self) {
        for budget in [&mut self.matches, &mut self.catch_up, &mut self.messages] {
            budget.refill();
        }
    }
}
