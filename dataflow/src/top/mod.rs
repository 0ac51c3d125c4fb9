//! `smartlog top`: a running pipeline in a terminal, for those without Grafana.
//!
//! ```text
//!   API ─────────┐
//!                ├─ observer.rs ──▶ Frame ──▶ screen.rs ──▶ view.rs ──▶ terminal
//!   /metrics ────┘  (its own thread)             ▲
//!                                              keys
//! ```
//!
//! It asks what anybody may ask, and keeps nothing.

mod exposition;
mod frame;
mod observer;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use crate::config::{Config, OutputFormat};
use anyhow::{Context as _, ensure};
use frame::{Frame, Sort};
use observer::Observer;
use ratatui_core::backend::{Backend, TestBackend};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::terminal::Terminal;
use ratatui_termion::TermionBackend;
use screen::{Screen, Wish};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::{Duration, Instant};
use termion::event::Key;
use termion::input::TermRead as _;
use termion::raw::IntoRawMode as _;
use termion::screen::IntoAlternateScreen as _;

/// How soon the screen follows when the terminal's size changes.
const TURN: Duration = Duration::from_millis(200);
/// What waits to be shown: looks and keys, whose senders wait when there is no room.
const MAX_NEWS: usize = 16;
/// The screen of `--once` where stdout is no terminal.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Shows the pipeline until the user quits, or `once`.
///
/// # Errors
/// When there is no terminal to draw on; with `once`, when the API cannot be asked.
pub fn run(config: &Config, once: bool) -> anyhow::Result<ExitCode> {
    let observer = Observer::new(config);
    if once || config.output.format == OutputFormat::Json {
        return print(observer, config);
    }
    ensure!(
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "there is no terminal to draw on: print one frame with --once, for a program with --format json"
    );
    let (ask, asked) = channel();
    let (tell, told) = sync_channel(MAX_NEWS);
    let (tell_key, refresh) = (tell.clone(), config.top.refresh);
    std::thread::spawn(move || {
        look_again(observer, refresh, &asked, |look| tell.send(News::Look(look)).is_ok())
    });
    let screen = std::io::stdout().into_raw_mode().and_then(|raw| raw.into_alternate_screen());
    let backend = TermionBackend::new(screen.context("the terminal cannot be drawn on")?);
    // Reads until the process ends: nothing wakes a thread that waits for a key.
    std::thread::spawn(move || {
        std::io::stdin().keys().flatten().all(|key| tell_key.send(News::Key(key)).is_ok());
    });
    watch(Terminal::new(backend)?, &told, &ask)?;
    Ok(ExitCode::SUCCESS)
}

/// What changes the screen.
enum News {
    Look(Box<Frame>),
    Key(Key),
}

/// One frame on stdout. Rates need two looks.
fn print(mut observer: Observer, config: &Config) -> anyhow::Result<ExitCode> {
    let mut screen = Screen::default();
    screen.observe(observer.look(Sort::default()));
    std::thread::sleep(config.top.refresh);
    screen.observe(observer.look(Sort::default()));
    let mut out = std::io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => writeln!(out, "{}", serde_json::to_string(&screen.frame)?)?,
        OutputFormat::Table => {
            let size = if out.is_terminal() { termion::terminal_size()? } else { USUAL_SIZE };
            out.write_all(drawn(&mut screen, size)?.as_bytes())?;
        }
    }
    let trouble = screen.frame.api.trouble.as_ref().map(|trouble| (&screen.frame.api.url, trouble));
    ensure!(
        trouble.is_none(),
        "{}",
        trouble.map_or(String::new(), |(url, trouble)| format!("{url}: {trouble}"))
    );
    Ok(ExitCode::SUCCESS)
}

/// What a terminal of this size would show, without colours.
fn drawn(screen: &mut Screen, (width, height): (u16, u16)) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| view::draw(frame, screen))?;
    Ok(text_of(terminal.backend().buffer()))
}

fn text_of(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    buffer.content().chunks(width.max(1)).map(|cells| format!("{}\n", line(cells).trim_end())).collect()
}

/// Looks every `refresh`, and at once when the order changes, until nobody wants to know.
fn look_again(
    mut observer: Observer,
    refresh: Duration,
    asked: &Receiver<Sort>,
    mut tell: impl FnMut(Box<Frame>) -> bool,
) {
    let mut sort = Sort::default();
    loop {
        let began = Instant::now();
        if !tell(Box::new(observer.look(sort))) {
            return;
        }
        match asked.recv_timeout(refresh.saturating_sub(began.elapsed())) {
            Ok(wanted) => sort = wanted,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Draws whatever changes until the user quits.
fn watch<B: Backend>(
    mut terminal: Terminal<B>,
    told: &Receiver<News>,
    ask: &Sender<Sort>,
) -> anyhow::Result<()>
where
    B::Error: Send + Sync + 'static,
{
    let mut screen = Screen::default();
    loop {
        terminal.draw(|frame| view::draw(frame, &mut screen))?;
        match told.recv_timeout(TURN) {
            Ok(News::Look(look)) => screen.observe(*look),
            Ok(News::Key(key)) => match screen.key(key) {
                Wish::Nothing => {}
                Wish::Quit => return Ok(()),
                // Nobody listens when the other thread has ended, which it does not before this one.
                Wish::Look => ask.send(screen.sort).unwrap_or_default(),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
