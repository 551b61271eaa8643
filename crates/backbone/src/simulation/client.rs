//! Clients that hop between nodes with a cursor.

/// What a node has shown since it started, in order.
#[derive(Clone, Debug)]
pub enum ShownItem {
    Item {
        epoch: u64,
        offset: u64,
    },
    /// What is between was not shown here: clients are told.
    Skip,
}

#[derive(Debug, Default)]
pub struct SimClient {
    pub node: usize,
    /// Of the node, to notice that it was started again.
    life: u32,
    next: usize,
    cursor: Option<(u64, u64)>,
    is_told: bool,
    pub received: u64,
}

impl SimClient {
    pub fn hop(&mut self, node: usize) {
        (self.node, self.life) = (node, 0);
    }

    /// Takes what the node has to show.
    pub fn read(&mut self, life: u32, shown: &[ShownItem]) {
        if self.life != life && !self.resume(life, shown) {
            return;
        }
        for shown in &shown[self.next.min(shown.len())..] {
            self.next += 1;
            match shown {
                ShownItem::Skip => self.is_told = true,
                ShownItem::Item { epoch, offset, .. } => self.take(*epoch, *offset),
            }
        }
    }

    /// I3, and I4 for clients: offsets grow strictly, and none is left out in silence.
    fn take(&mut self, epoch: u64, offset: u64) {
        if let Some((of, last)) = self.cursor.filter(|(of, _)| *of == epoch) {
            assert!(offset > last, "I3: offset {offset} of epoch {of:x} after {last}");
            assert!(self.is_told || offset == last + 1, "I4: offset {offset} of epoch {of:x} after {last} in silence");
        }
        (self.cursor, self.is_told) = (Some((epoch, offset)), false);
        self.received += 1;
    }

    /// False if the client's cursor is ahead of the node: then it waits.
    fn resume(&mut self, life: u32, shown: &[ShownItem]) -> bool {
        let head = shown.iter().rev().find_map(|shown| match shown {
            ShownItem::Item { epoch, offset, .. } => Some((*epoch, *offset)),
            ShownItem::Skip => None,
        });
        match (self.cursor, head) {
            (Some((epoch, offset)), Some((of, newest))) if of == epoch => {
                if newest < offset {
                    return false;
                }
                let place = |first: &dyn Fn(u64) -> bool| {
                    shown.iter().position(|shown| {
                        matches!(shown, ShownItem::Item { epoch: of, offset: at, .. } if *of == epoch && first(*at))
                    })
                };
                // A node that does not have the cursor's own frame says that it skips.
                let own = place(&|at| at == offset).map(|index| index + 1);
                self.is_told = own.is_none();
                self.next = own.or(place(&|at| at > offset)).unwrap_or(shown.len());
            }
            (Some(_), None) => return false,
            // Another epoch: the client is told, and has current values.
            _ => (self.next, self.cursor) = (shown.len(), None),
        }
        self.life = life;
        true
    }
}
