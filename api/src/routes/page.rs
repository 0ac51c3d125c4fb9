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
    about: "Scripts, styles, icon and licence.",
    path_params: &[("file", "The file's name", "app.css")],
    produces: &["text/css", "text/javascript", "text/plain", "image/svg+xml"],
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

/// The page's files. uPlot is the minified build of its npm package, version and licence beside it.
static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    macro_rules! file {
        ($name:literal, $content_type:literal) => {
            Part {
                name: $name,
                content_type: $content_type,
                kept: Kept::new(include_str!(concat!("../../assets/", $name))),
            }
        };
    }
    vec![
        file!("index.html", "text/html; charset=utf-8"),
        file!("app.css", "text/css; charset=utf-8"),
        file!("app.js", "text/javascript; charset=utf-8"),
        file!("charts.js", "text/javascript; charset=utf-8"),
        file!("data.js", "text/javascript; charset=utf-8"),
        file!("detail.js", "text/javascript; charset=utf-8"),
        file!("episodes.js", "text/javascript; charset=utf-8"),
        file!("format.js", "text/javascript; charset=utf-8"),
        file!("lanes.js", "text/javascript; charset=utf-8"),
        file!("patterns.js", "text/javascript; charset=utf-8"),
        file!("rows.js", "text/javascript; charset=utf-8"),
        file!("services.js", "text/javascript; charset=utf-8"),
        file!("uplot.js", "text/javascript; charset=utf-8"),
        file!("uplot.css", "text/css; charset=utf-8"),
        file!("uplot.LICENSE.txt", "text/plain; charset=utf-8"),
        file!("icon.svg", "image/svg+xml"),
    ]
});

fn part(call: &Call, name: &str) -> Result<Response, Problem> {
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| Problem::not_found(format!("the page has no file {}", quotable(name))))?;
    Ok(conditional(&call.headers, &part.kept, part.content_type, "no-cache"))
}
