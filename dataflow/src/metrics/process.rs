//! What the process is and takes, under the names that every exporter for Prometheus uses.

use super::page::Page;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;

/// Reads `/proc/self` at every scrape. Where there is none, what comes from it is left out.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder, "");
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("smartlog_build_info", "Always 1; which program this is", [(build, 1.0)])?;
        of_kernel(&mut page)
    }
}

#[cfg(not(target_os = "linux"))]
fn of_kernel(_: &mut Page<'_>) -> fmt::Result {
    Ok(())
}

#[cfg(target_os = "linux")]
fn of_kernel(page: &mut Page<'_>) -> fmt::Result {
    use procfs::process::LimitValue;
    let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let spent = (stat.utime + stat.stime) as f64 / ticks;
        page.counter_of("process_cpu_seconds", "Processor time spent", spent)?;
        page.gauge("process_threads", "Threads", stat.num_threads as f64)?;
        page.gauge("process_virtual_memory_bytes", "Address space taken", stat.vsize as f64)?;
        page.gauge(
            "process_resident_memory_bytes",
            "Memory taken",
            stat.rss as f64 * procfs::page_size() as f64,
        )?;
        if let Ok(boot) = procfs::boot_time_secs() {
            let started = boot as f64 + stat.starttime as f64 / ticks;
            page.gauge("process_start_time_seconds", "When it was started, since 1970", started)?;
        }
    }
    if let Ok(open) = process.fd_count() {
        page.gauge("process_open_fds", "Files and sockets open", open as f64)?;
    }
    if let Ok(LimitValue::Value(most)) = process.limits().map(|limits| limits.max_open_files.soft_limit) {
        page.gauge("process_max_fds", "Files and sockets that may be open", most as f64)?;
    }
    Ok(())
}
