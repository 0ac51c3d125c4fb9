//! `[telemetry]`: traces, for whoever collects them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces of commits, ticks and requests, for a receiver of OpenTelemetry's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Receiver of traces by OTLP over HTTP, such as `http://127.0.0.1:4318`; unset: as the OTEL_EXPORTER_OTLP_… variables say, if they do.
    ///
    /// `/v1/traces` is added. Needs a build with the feature `otlp`. Other variables of OpenTelemetry are heard too: OTEL_SERVICE_NAME,
    /// OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_….
    #[schemars(extend("x-form" = "URL"))]
    pub otlp_endpoint: Option<String>,
}
