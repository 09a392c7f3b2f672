//! One row per rule of the specification.

use super::*;

/// `a b? c`: a question mark makes a member optional.
fn group(text: &str) -> Group {
    Group(
        text.split_whitespace()
            .map(|word| Member {
                id: word.trim_end_matches('?').to_owned(),
                optional: word.ends_with('?'),
            })
            .collect(),
    )
}

/// `+x -y`: provides x, requires y; `|` between alternatives.
fn plans(text: &str) -> Detected {
    Detected::Pass(
        text.split('|')
            .map(|alternative| {
                let mut plan = Plan::default();
                for word in alternative.split_whitespace() {
                    match word.split_at(1) {
                        ("+", name) => plan.provides.push(name.to_owned()),
                        ("-", name) => plan
                            .requires
                            .push(Require { name: name.to_owned(), metadata: "{}".to_owned() }),
                        _ => panic!("{word}"),
                    }
                }
                plan
            })
            .collect(),
    )
}

fn said(rows: &[(&str, Detected)]) -> BTreeMap<String, Detected> {
    rows.iter().map(|(id, detected)| ((*id).to_owned(), detected.clone())).collect()
}

fn fail() -> Detected {
    Detected::Fail("no".to_owned())
}

/// The chosen ids with what is required of them: `a(x) b()`.
fn outcome(groups: &[&str], rows: &[(&str, Detected)]) -> String {
    let groups: Vec<Group> = groups.iter().map(|text| group(text)).collect();
    match resolve(&groups, &said(rows)) {
        Ok(chosen) => chosen
            .iter()
            .map(|chosen| {
                let names: Vec<&str> =
                    chosen.requires.iter().map(|require| require.name.as_str()).collect();
                format!("{}({})", chosen.id, names.join(","))
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(NoMatch::Error { id, message }) => format!("error {id}: {message}"),
        Err(NoMatch::Reasons(reasons)) => {
            let reasons: Vec<String> =
                reasons.iter().map(|(id, reason)| format!("{id}: {reason}")).collect();
            format!("none; {}", reasons.join("; "))
        }
    }
}

#[test]
fn the_first_group_that_passes_wins() {
    let rows = [("a", fail()), ("b", plans("")), ("c", plans(""))];
    assert_eq!(outcome(&["a", "b", "c"], &rows), "b()");
    assert_eq!(outcome(&["c", "b"], &rows), "c()");
}

#[test]
fn a_required_member_that_fails_fails_its_group_and_an_optional_one_does_not() {
    let rows = [("a", plans("")), ("b", fail())];
    assert_eq!(outcome(&["a b", "a b?"], &rows), "a()");
    assert_eq!(outcome(&["a b"], &rows), "none; b: no");
}

#[test]
fn a_group_needs_one_member_that_passes() {
    assert_eq!(outcome(&["a? b?"], &[("a", fail()), ("b", fail())]), "none; a: no; b: no");
    assert_eq!(outcome(&["missing"], &[]), "none; ");
}

#[test]
fn a_requirement_is_met_by_the_same_or_an_earlier_member() {
    assert_eq!(outcome(&["a"], &[("a", plans("+x -x"))]), "a(x)");
    assert_eq!(outcome(&["a b"], &[("a", plans("+x")), ("b", plans("-x"))]), "a(x) b()");
    assert_eq!(
        outcome(&["a b"], &[("a", plans("-x")), ("b", plans("+x"))]),
        "none; a: it needs 'x', which no buildpack before it provides"
    );
}

#[test]
fn a_provision_must_be_required_by_the_same_or_a_later_member() {
    assert_eq!(
        outcome(&["a"], &[("a", plans("+x"))]),
        "none; a: it provides 'x', which no buildpack after it needs"
    );
    assert_eq!(outcome(&["a b"], &[("a", plans("+x")), ("b", plans("-x"))]), "a(x) b()");
}

#[test]
fn an_optional_member_that_does_not_fit_leaves_and_the_rest_is_tried_again() {
    // b's provision is of no use, so it leaves; then c's requirement is unmet, so it leaves too.
    let rows = [("a", plans("")), ("b", plans("+x +y")), ("c", plans("-x"))];
    assert_eq!(outcome(&["a b? c?"], &rows), "a()");
    let rows = [("a", plans("")), ("b", plans("+x")), ("c", plans("-x"))];
    assert_eq!(outcome(&["a b? c?"], &rows), "a() b(x) c()");
}

#[test]
fn alternatives_are_tried_from_the_left_the_last_member_first() {
    let rows = [("a", plans("+x|+y")), ("b", plans("-y|-x"))];
    assert_eq!(outcome(&["a b"], &rows), "a(x) b()");
    let rows = [("a", plans("+x|")), ("b", plans(""))];
    assert_eq!(outcome(&["a b"], &rows), "a() b()");
}

#[test]
fn several_requirements_reach_every_provider_of_the_name() {
    let rows = [("a", plans("+x")), ("b", plans("+x -x")), ("c", plans("-x"))];
    assert_eq!(outcome(&["a b c"], &rows), "a(x,x) b(x,x) c()");
}

#[test]
fn an_error_stops_the_search_only_in_a_group_that_would_pass() {
    let error = Detected::Error("Procfile, line 3: …".to_owned());
    let rows = [("a", fail()), ("b", plans("")), ("p", error)];
    assert_eq!(outcome(&["a p?", "b p?"], &rows), "error p: Procfile, line 3: …");
    assert_eq!(outcome(&["a p"], &rows), "none; a: no; p: Procfile, line 3: …");
}

#[test]
fn what_cannot_be_asked_is_passed_over_and_told_where_nothing_fits() {
    let broken = || Detected::Broken("it broke".to_owned());
    let rows = [("a", broken()), ("b", plans(""))];
    assert_eq!(outcome(&["a", "b"], &rows), "b()");
    assert_eq!(outcome(&["b a?"], &rows), "b()");
    assert_eq!(outcome(&["a", "b a"], &rows), "none; a: it broke");
}

#[test]
fn every_reason_is_given_once_in_the_order_of_the_groups() {
    let rows = [("a", fail()), ("b", Detected::Fail("neither".to_owned()))];
    assert_eq!(outcome(&["b a", "a b"], &rows), "none; b: neither; a: no");
}

#[test]
fn the_number_of_trials_is_bounded() {
    let many = vec!["+x"; 40].join("|");
    let rows = [("a", plans(&many)), ("b", plans(&many)), ("c", plans(&many)), ("d", plans(&many))];
    assert!(outcome(&["a b c d"], &rows).starts_with("none;"));
}
