//! The OpenAPI 3.1 document, made from [`ROUTES`]: what is checked is what is documented.

use crate::paging::CURSOR;
use crate::params::{Kind, Param};
use crate::problem::{CONTENT_TYPE, Problem};
use crate::routes::{Answer, NamedSchema, ROUTES, Route, schema_of};
use crate::time;
use hyper::Method;
use serde_json::json;
use utoipa::openapi::path::ParameterStyle;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, PathItem, Ref, RefOr,
    Required, Response, ResponseBuilder, ResponsesBuilder,
};

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// The document as JSON.
pub fn document() -> Vec<u8> {
    let info = InfoBuilder::new()
        .title("smartlog")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What a stream of logs says: anomalies with their reasons, hourly numbers, services now, the logs \
             themselves. Every list says `complete_through`: the event time up to which its numbers are final. \
             Errors are RFC 9457 problem details that name the parameter and what is allowed.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let paths = ROUTES.iter().fold(PathsBuilder::new(), |paths, route| {
        let method = match route.answer {
            Answer::Told { .. } => HttpMethod::Post,
            Answer::Removed(_) => HttpMethod::Delete,
            Answer::Plain(_) | Answer::Kept(_) => HttpMethod::Get,
        };
        paths.path(route.path, PathItem::new(method, operation(route)))
    });
    let mut components = ComponentsBuilder::new();
    let answers = ROUTES.iter().filter_map(|route| route.schema);
    let bodies = ROUTES.iter().filter_map(|route| match route.answer {
        Answer::Told { body, .. } => Some(body),
        Answer::Plain(_) | Answer::Kept(_) | Answer::Removed(_) => None,
    });
    let routes = answers.chain(bodies);
    for NamedSchema { name, schema, referred } in routes.map(|make| make()).chain([schema_of::<Problem>()]) {
        components = components.schema(name, schema).schemas_from_iter(referred);
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Where tokens are configured; `smartlog api token` makes one"))
        .build();
    components = components.security_scheme(BEARER, SecurityScheme::Http(bearer));
    let document = OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build()));
    serde_json::to_vec(&document.build()).unwrap_or_default()
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let query = route.params.iter().map(query_parameter);
    let path = route.path_params.iter().map(|(name, about, example)| path_parameter(name, about, example));
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.operation))
        .tag(route.tag)
        .summary(Some(route.summary))
        .description(Some(route.about))
        .parameters(Some(path.chain(query)))
        .responses(responses(route));
    if let Answer::Told { body, example, .. } = route.answer {
        operation = operation.request_body(Some(request_body(body().name, example())));
    }
    if let Some(scope) = route.scope() {
        // Also without: whether a token is asked for is a matter of configuration.
        operation = operation.securities(Some([
            SecurityRequirement::new(BEARER, [scope.as_str()]),
            SecurityRequirement::default(),
        ]));
    }
    operation.build()
}

fn request_body(schema: String, example: serde_json::Value) -> utoipa::openapi::request_body::RequestBody {
    let schema = RefOr::<Schema>::Ref(Ref::from_schema_name(schema));
    let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
    RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", content).build()
}

fn responses(route: &Route) -> utoipa::openapi::Responses {
    let mut responses = ResponsesBuilder::new().response("200", success(route));
    if matches!(route.answer, Answer::Kept(_)) {
        responses = responses.response("304", Response::new("Unchanged since the ETag in If-None-Match"));
    }
    if route.params.iter().any(|param| param.name == CURSOR.name) {
        responses = responses
            .response("404", problem("No page of this list has this number, or begins at this cursor"));
    }
    if route.method() == Method::POST {
        responses = responses
            .response("413", problem("The body is too long"))
            .response("415", problem("The body is not JSON"));
    }
    for (status, about) in route.also {
        let response = if *status < 400 { Response::new(*about) } else { problem(about) };
        responses = responses.response(status.to_string(), response);
    }
    responses
        .response("400", problem("A parameter is unknown or cannot be read"))
        .response("401", problem("A token is asked for, and none that is known was given"))
        .response("403", problem("The token does not allow this"))
        .response("406", problem("Accept allows none of the media types"))
        .response("422", problem("A parameter asks for what cannot be"))
        .response("429", problem("Too many requests from this address"))
        .response("503", unavailable(route))
        .build()
}

fn success(route: &Route) -> Response {
    let mut response = ResponseBuilder::new().description(route.summary);
    let schema = route.schema.map(|make| RefOr::Ref(Ref::from_schema_name(make().name)));
    let example = route.example.map(|make| make());
    for media_type in route.produces {
        let content = ContentBuilder::new().schema(schema.clone()).example(example.clone());
        response = response.content(*media_type, content.build());
    }
    response.build()
}

fn problem(about: &str) -> Response {
    let schema = RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(about).content(CONTENT_TYPE, content).build()
}

/// Health says in its own words that the store is down.
fn unavailable(route: &Route) -> Response {
    let mut response = problem("The store cannot answer now");
    if let (true, Some(schema)) = (route.tag == "health", route.schema) {
        let schema = RefOr::<Schema>::Ref(Ref::from_schema_name(schema().name));
        response
            .content
            .insert("application/json".into(), ContentBuilder::new().schema(Some(schema)).build().into());
    }
    response
}

fn path_parameter(name: &str, about: &str, example: &str) -> Parameter {
    let schema = match example.parse::<i64>() {
        Ok(_) => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)),
        Err(_) => ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^/]+$")),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(schema))
        .example(Some(example.parse::<i64>().map_or_else(|_| json!(example), |number| json!(number))))
        .build()
}

fn query_parameter(param: &Param) -> Parameter {
    let mut built = ParameterBuilder::new()
        .name(param.name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(param.about))
        .schema(Some(schema(param)));
    if matches!(param.kind, Kind::Words(_)) {
        built = built.style(Some(ParameterStyle::Form)).explode(Some(false));
    }
    if !param.example.is_empty() {
        built = built.example(Some(example(param)));
    }
    built.build()
}

fn schema(param: &Param) -> Schema {
    let string = || ObjectBuilder::new().schema_type(Type::String);
    match param.kind {
        Kind::Text { max_chars } => {
            string().min_length(Some(1)).max_length(Some(max_chars)).pattern(Some("^[^\u{0}]+$")).into()
        }
        Kind::Id => string().pattern(Some("^[0-9a-fA-F]{1,16}$")).into(),
        Kind::Words(words) => ArrayBuilder::new()
            .items(string().enum_values(Some(words.iter().copied())))
            .min_items(Some(1))
            .into(),
        Kind::Choice(words) => string()
            .enum_values(Some(words.iter().copied()))
            .default(words.first().map(|word| json!(word)))
            .into(),
        Kind::Integer { min, max, default } => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(min as f64))
            .maximum((max < i64::MAX).then_some(max as f64))
            .default(default.map(|number| json!(number)))
            .into(),
        Kind::Time => AnyOfBuilder::new()
            .item(string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
            .item(string().pattern(Some(time::RELATIVE)))
            .description(Some(time::EXPECTED))
            .into(),
    }
}

fn example(param: &Param) -> serde_json::Value {
    match param.kind {
        Kind::Integer { .. } => {
            param.example.parse::<i64>().map_or(json!(param.example), |number| json!(number))
        }
        Kind::Words(_) => json!(param.example.split(',').collect::<Vec<_>>()),
        _ => json!(param.example),
    }
}
