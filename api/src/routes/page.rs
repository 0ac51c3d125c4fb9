//! `GET /`: the live page, and its parts, embedded in the program.

use super::{Answer, Call, Route, conditional};
use crate::cache::Kept;
use crate::problem::{Problem, quotable};
use axum::response::Response;
use std::sync::LazyLock;

pub const ROUTE: Route = Route {
    path: "/",
    operation: "getPage",
    tag: "page",
    summary: "The live page",
    about: "For an engineer on call: what is wrong now, since when, where.",
    params: &[],
    path_params: &[],
    produces: &["text/html"],
    schema: None,
    example: None,
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { part(&call, "index.html") })),
};

pub const ASSETS: Route = Route {
    path: "/assets/{file}",
    operation: "getPageFile",
    summary: "Parts of the live page",
    about: "Script, style and icon.",
    path_params: &[("file", "The file's name", "app.css")],
    produces: &["text/css", "text/javascript", "image/svg+xml"],
    also: &[(404, "No such file")],
    answer: Answer::Plain(|call| {
        Box::pin(async move {
            let name = call.path.first().cloned().unwrap_or_default();
            part(&call, &name)
        })
    }),
    ..ROUTE
};

/// One file of the page.
struct Part {
    name: &'static str,
    content_type: &'static str,
    kept: Kept,
}

static PARTS: LazyLock<[Part; 4]> = LazyLock::new(|| {
    let part = |name, content_type, body: &'static str| Part { name, content_type, kept: Kept::new(body) };
    [
        part("index.html", "text/html; charset=utf-8", include_str!("../../assets/index.html")),
        part("app.css", "text/css; charset=utf-8", include_str!("../../assets/app.css")),
        part("app.js", "text/javascript; charset=utf-8", include_str!("../../assets/app.js")),
        part("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
    ]
});

fn part(call: &Call, name: &str) -> Result<Response, Problem> {
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| Problem::not_found(format!("the page has no file {}", quotable(name))))?;
    Ok(conditional(&call.headers, &part.kept, part.content_type, "no-cache"))
}
