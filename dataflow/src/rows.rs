//! Window rows as a CSV file: `window_end,service,log_count,error_count,avg_message_length,unique_services`.

use smartlog_operators::record::Epoch;
use smartlog_operators::window_rows::WindowRow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The file. Begun anew at every start: the rows of a replay are all in one file, in order.
pub struct WindowsFile(csv::Writer<BufWriter<File>>);

impl WindowsFile {
    /// Creates the file and writes its head.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)
            .map_err(|error| anyhow::anyhow!("creating {} for the windows: {error}", path.display()))?;
        let mut csv = csv::Writer::from_writer(BufWriter::with_capacity(1 << 18, file));
        csv.write_record([
            "window_end",
            "service",
            "log_count",
            "error_count",
            "avg_message_length",
            "unique_services",
        ])?;
        Ok(WindowsFile(csv))
    }

    /// Writes rows, ascending by window and service; each window's rows are all there.
    fn write(&mut self, rows: &[WindowRow]) -> anyhow::Result<()> {
        for window in rows.chunk_by(|a, b| a.end == b.end) {
            let end = jiff::Timestamp::from_second(window[0].end)?.to_string();
            let services = window.len().to_string();
            for WindowRow { service, sums, .. } in window {
                let (logs, errors) = (sums.logs.to_string(), sums.errors.to_string());
                let average = sums.avg_message_length().to_string();
                self.0.write_record([&end, service.as_str(), &logs, &errors, &average, &services])?;
            }
        }
        self.0.flush()?;
        Ok(())
    }
}

/// Writes rows from all workers, in order. `file`: on worker 0 only.
pub fn rows_to<'scope>(
    rows: StreamVec<'scope, Epoch, WindowRow>,
    mut file: Option<WindowsFile>,
    fail: impl Fn(anyhow::Error) + 'static,
) {
    let mut builder = OperatorBuilder::new("windows_file".to_owned(), rows.scope());
    let mut rows = builder.new_input(rows, Exchange::new(|_: &WindowRow| 0));
    builder.build(move |_| {
        let mut open: BTreeMap<Epoch, Vec<WindowRow>> = BTreeMap::new();
        move |frontiers| {
            rows.for_each(|cap, data| {
                if let Some(&epoch) = cap.least() {
                    open.entry(epoch).or_default().append(data);
                }
            });
            while let Some(entry) = open.first_entry().filter(|e| !frontiers[0].less_equal(e.key())) {
                let mut rows = entry.remove();
                rows.sort_unstable();
                if let Some(Err(error)) = file.as_mut().map(|file| file.write(&rows)) {
                    fail(error.context("writing the windows file"));
                    file = None;
                }
            }
        }
    });
}
