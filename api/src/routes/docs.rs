//! `GET /openapi.json` and `/docs`: the documentation, made from [`super::ROUTES`], without a network.

use super::{Answer, Call, JSON, Route, conditional, json};
use crate::cache::Kept;
use crate::problem::{Problem, quotable};
use axum::response::{IntoResponse, Response};
use hyper::{StatusCode, header};
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

pub const OPENAPI: Route = Route {
    path: "/openapi.json",
    operation: "getOpenApi",
    tag: "documentation",
    summary: "This API as an OpenAPI 3.1 document",
    about: "Generated from the code that serves it.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: None,
    example: None,
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { Ok(json(&call.headers, &call.app.openapi)) })),
};

pub const ROUTE: Route = Route {
    path: "/docs",
    operation: "getDocs",
    summary: "The documentation as a page",
    about: "Leads to /docs/index.html; all of it is in the program.",
    produces: &["text/html"],
    also: &[(308, "To /docs/index.html")],
    answer: Answer::Plain(|_| {
        Box::pin(async {
            Ok((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/docs/index.html")]).into_response())
        })
    }),
    ..OPENAPI
};

pub const ASSETS: Route = Route {
    path: "/docs/{file}",
    operation: "getDocsFile",
    summary: "Parts of the documentation page",
    about: "Swagger UI.",
    path_params: &[("file", "The file's name", "index.html")],
    produces: &[
        "text/html",
        "text/css",
        "text/javascript",
        "application/javascript",
        "image/png",
        "application/json",
    ],
    also: &[(404, "No such file")],
    answer: Answer::Plain(|call| Box::pin(async move { asset(&call) })),
    ..OPENAPI
};

fn asset(call: &Call) -> Result<Response, Problem> {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json").use_base_layout()));
    let name = call.path.first().map(String::as_str).unwrap_or_default();
    let found = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)).map_err(|error| {
        tracing::error!(%error, "the documentation page cannot be made");
        Problem::internal("the documentation page cannot be made")
    })?;
    let file = found.ok_or_else(|| Problem::not_found(format!("/docs has no file {}", quotable(name))))?;
    let kept = Kept::new(file.bytes.into_owned());
    let mut response = conditional(&call.headers, &kept, "", "no-cache");
    if let Ok(content_type) = file.content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    Ok(response)
}
