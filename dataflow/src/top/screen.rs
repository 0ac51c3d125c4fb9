//! What the user sees and has chosen: keys change it, looks bring it up to date, `view.rs` draws it.

use super::frame::{Frame, Sort};
use ratatui_widgets::table::TableState;
use std::collections::VecDeque;
use termion::event::Key;

/// Looks whose throughput is kept for the curve: more than any terminal has columns.
const MAX_HISTORY: usize = 1_024;
/// Rows that a page up or down goes.
const PAGE: u16 = 10;

/// The lists that can be scrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    Services,
    Episodes,
    Partitions,
}

/// What a key asks of whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
    /// Look again now, as the order has changed.
    Look,
}

pub struct Screen {
    /// The last look that reached the API; its troubles are those of the last look.
    pub frame: Frame,
    /// Whether no look has come yet.
    pub is_empty: bool,
    /// Records per second of each look, the newest last.
    pub history: VecDeque<u64>,
    pub sort: Sort,
    pub focus: Panel,
    pub paused: bool,
    pub help: bool,
    /// As the variable NO_COLOR asks for.
    pub no_colours: bool,
    /// Scroll positions of the panels, in their order.
    pub tables: [TableState; 3],
}

impl Default for Screen {
    fn default() -> Self {
        Screen {
            frame: Frame::default(),
            is_empty: true,
            history: VecDeque::new(),
            sort: Sort::default(),
            focus: Panel::Services,
            paused: false,
            help: false,
            no_colours: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            tables: Default::default(),
        }
    }
}

impl Screen {
    /// Takes over a new look. While the API is away the last that was seen of it stays.
    pub fn observe(&mut self, mut frame: Frame) {
        if self.paused {
            return;
        }
        // Without the dataflow's figures, what it stored in the last minute tells.
        let stored = frame.status.as_ref().map(|status| status.logs_per_second);
        if let Some(rate) = frame.flow.records_per_s.or(stored) {
            self.history.push_back(rate.round() as u64);
        }
        while self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
        if frame.api.trouble.is_some() && !self.is_empty {
            let seen = std::mem::take(&mut self.frame);
            frame = Frame {
                api: frame.api,
                metrics: frame.metrics,
                flow: frame.flow,
                queues: frame.queues,
                ..seen
            };
        }
        self.sort.apply(&mut frame.services);
        (self.frame, self.is_empty) = (frame, false);
        for (table, rows) in self.tables.iter_mut().zip(Self::lengths(&self.frame)) {
            let last = rows.checked_sub(1);
            table.select(table.selected().or(Some(0)).and_then(|at| last.map(|last| at.min(last))));
        }
    }

    fn lengths(frame: &Frame) -> [usize; 3] {
        [frame.services.len(), frame.episodes.len(), frame.partitions.len()]
    }

    pub fn key(&mut self, key: Key) -> Wish {
        let had_help = std::mem::take(&mut self.help);
        let table = &mut self.tables[self.focus as usize];
        match key {
            Key::Char('q') | Key::Ctrl('c') => return Wish::Quit,
            Key::Esc if !had_help => return Wish::Quit,
            Key::Char('?' | 'h') => self.help = !had_help,
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.sort.apply(&mut self.frame.services);
                return Wish::Look;
            }
            Key::Char('\t') | Key::Right => self.focus = self.focus.next(),
            Key::BackTab | Key::Left => self.focus = self.focus.next().next(),
            Key::Down | Key::Char('j') => table.scroll_down_by(1),
            Key::Up | Key::Char('k') => table.scroll_up_by(1),
            Key::PageDown => table.scroll_down_by(PAGE),
            Key::PageUp => table.scroll_up_by(PAGE),
            Key::Home => table.select_first(),
            Key::End => table.select_last(),
            _ => {}
        }
        Wish::Nothing
    }
}

impl Panel {
    fn next(self) -> Self {
        match self {
            Panel::Services => Panel::Episodes,
            Panel::Episodes => Panel::Partitions,
            Panel::Partitions => Panel::Services,
        }
    }
}
