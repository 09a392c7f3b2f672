use crate::Api;

#[tokio::test]
async fn the_document_is_served_as_it_was_reviewed() {
    let api = Api::start().await;
    let served = api.must("nobody", "GET", "/v1/openapi.json", None).await;
    insta::assert_json_snapshot!("openapi", served);
}

#[test]
fn operations_have_names_of_their_own_and_say_what_they_do() {
    let document = serde_json::to_value(berthd::http::openapi()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
}
