//! Traces of commits, ticks and requests, by OTLP over HTTP, where a receiver is named.
//!
//! ```text
//!   spans of target smartlog_trace ─▶ layer ─┐
//!   ticks, told when they are over ──────────┴─▶ batches (a thread) ─▶ HTTP ─▶ receiver
//! ```
//!
//! The spans have a target and a level of their own, so that without a receiver none is made, and log lines look the same with
//! one. What cannot be delivered is dropped and logged: nothing waits for the receiver.

#[cfg(not(feature = "otlp"))]
pub use off::{end, layer, tick};
#[cfg(feature = "otlp")]
pub use on::{end, layer, tick};

#[cfg(not(feature = "otlp"))]
mod off {
    use crate::config::Telemetry;
    use crate::logging::BoxedLayer;
    use std::time::Duration;

    /// The configuration has refused an endpoint.
    pub fn layer(_: &Telemetry) -> anyhow::Result<Option<BoxedLayer>> {
        Ok(None)
    }

    pub fn tick(_: Duration) {}

    pub fn end() {}
}

#[cfg(feature = "otlp")]
mod on {
    use crate::config::Telemetry;
    use crate::logging::BoxedLayer;
    use anyhow::Context as _;
    use async_trait::async_trait;
    use hyper::body::Bytes;
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_http::{HttpClient, HttpError, Request, Response};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use smartlog_http::agent;
    use std::sync::OnceLock;
    use std::time::{Duration, SystemTime};
    use tracing::Level;
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::filter::Targets;

    /// The target of all spans: see the module's head.
    const TARGET: &str = "smartlog_trace";
    /// What is said of the program where OTEL_SERVICE_NAME says nothing.
    const SERVICE: &str = "smartlog";
    /// Either of them names a receiver.
    const VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    /// How long the receiver may take for a batch, and all that is left at the end.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// An answer is not read beyond this, bytes.
    const ANSWER_MAX: u64 = 64 << 10;

    static TRACES: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

    /// Who hears of spans; `None` where no receiver is named.
    ///
    /// # Errors
    /// When the receiver's URL, or a variable of OpenTelemetry's, cannot be understood.
    pub fn layer(telemetry: &Telemetry) -> anyhow::Result<Option<BoxedLayer>> {
        if telemetry.otlp_endpoint.is_none() && !VARIABLES.into_iter().any(is_set) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Client(agent(PATIENCE)));
        let exporter = match &telemetry.otlp_endpoint {
            Some(base) => exporter.with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/'))),
            None => exporter,
        };
        let exporter = exporter.build().context("traces cannot be sent: see telemetry.otlp_endpoint")?;
        let mut resource = Resource::builder();
        if !is_set("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let (_, tracer) = TRACES.get_or_init(|| (provider.clone(), provider.tracer(SERVICE)));
        let layer = tracing_opentelemetry::layer().with_tracer(tracer.clone());
        Ok(Some(layer.with_filter(Targets::new().with_target(TARGET, Level::TRACE)).boxed()))
    }

    fn is_set(variable: &str) -> bool {
        std::env::var_os(variable).is_some_and(|value| !value.is_empty())
    }

    /// A tick is over, for which the workers took so long.
    pub fn tick(took: Duration) {
        let Some((_, tracer)) = TRACES.get() else { return };
        let now = SystemTime::now();
        let span = tracer.span_builder("tick").with_start_time(now.checked_sub(took).unwrap_or(now));
        tracer.build(span).end_with_timestamp(now);
    }

    /// Sends what is left.
    pub fn end() {
        if let Some((provider, _)) = TRACES.get()
            && let Err(error) = provider.shutdown_with_timeout(PATIENCE)
        {
            tracing::debug!("the last traces were not delivered: {error}");
        }
    }

    /// Called on the thread of the batches, which has nothing else to do.
    #[derive(Debug)]
    struct Client(ureq::Agent);

    #[async_trait]
    impl HttpClient for Client {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            let (head, body) = request.into_parts();
            let answer = self.0.run(Request::from_parts(head, body.to_vec()))?;
            let (head, mut body) = answer.into_parts();
            let body = body.with_config().limit(ANSWER_MAX).read_to_vec()?;
            Ok(Response::from_parts(head, body.into()))
        }
    }
}
