use berth_extensions::inspect::NotAComponent;
use berth_extensions::{AppRefusal, BuildpackRefusal, check_app, check_buildpack};

use super::support::guest;

#[test]
fn the_guests_fit_their_worlds_and_not_each_others() {
    check_app(&guest("guest_app")).unwrap();
    check_buildpack(&guest("guest_buildpack")).unwrap();
    let refused = check_app(&guest("guest_buildpack")).unwrap_err().to_string();
    assert!(refused.contains("wasi:http/incoming-handler"), "{refused}");
    assert!(refused.contains("berth:buildpack/detector@0.1.0"), "{refused}");
    let refused = check_buildpack(&guest("guest_app")).unwrap_err();
    assert!(matches!(refused, BuildpackRefusal::NoBuildpack { missing, .. } if missing.len() == 2));
}

#[test]
fn what_is_missing_is_named() {
    let component = wat::parse_str(
        r#"(component
            (import "wasi:keyvalue/store@0.2.0-draft" (instance))
            (import "wasi:cli/stdout@0.2.3" (instance))
            (import "wasi:http/types@0.3.0" (instance))
            (component $inner (import "hidden:inside/it" (instance)))
            (instance $handler)
            (export "wasi:http/incoming-handler@0.2.6" (instance $handler)))"#,
    )
    .unwrap();
    let AppRefusal::Missing { interfaces } = check_app(&component).unwrap_err() else {
        panic!("it must be refused for its imports");
    };
    assert_eq!(interfaces, ["wasi:keyvalue/store@0.2.0-draft", "wasi:http/types@0.3.0"]);
}

#[test]
fn what_is_no_component_is_told_what_it_is() {
    let module = wat::parse_str("(module)").unwrap();
    let cases = [
        (module.as_slice(), NotAComponent::CoreModule),
        (b"#!/bin/sh\n".as_slice(), NotAComponent::NotWasm),
        (b"".as_slice(), NotAComponent::NotWasm),
    ];
    for (bytes, expected) in cases {
        assert_eq!(check_app(bytes), Err(AppRefusal::NotAComponent(expected)));
    }
}

#[test]
fn damaged_components_are_refused_and_never_panic() {
    let whole = guest("guest_app");
    for length in (0..whole.len()).step_by(997) {
        assert!(check_app(&whole[..length]).is_err() || length > whole.len() / 2);
    }
    let mut flipped = whole.clone();
    for at in (8..whole.len()).step_by(1009) {
        flipped[at] ^= 0xff;
        let _ = check_app(&flipped);
        flipped[at] = whole[at];
    }
}
