use super::*;

fn caller(roles: &[(TeamId, Role)]) -> Caller {
    Caller {
        principal: PrincipalId::new(0, [0; 10]),
        name: "x".into(),
        team: team(1),
        roles: roles.iter().copied().collect(),
        scope: Scope::All,
        apps: None,
        via: Via::Token(TokenId::new(0, [0; 10])),
        source_ip: None,
    }
}

fn team(n: u8) -> TeamId {
    TeamId::new(0, [n; 10])
}

fn app(n: u8) -> AppId {
    AppId::new(0, [n; 10])
}

#[test]
fn another_team_is_as_if_absent_for_all_but_an_admin() {
    for role in [Role::Viewer, Role::Developer, Role::Operator] {
        let caller = caller(&[(team(1), role)]);
        for resource in [Resource::OfTeam(team(2)), Resource::App { team: team(2), app: app(1) }] {
            assert_eq!(authorize(&caller, Verb::Read, &resource), Decision::Hidden, "{role:?}");
        }
    }
    let admin = caller(&[(team(1), Role::Admin)]);
    let decision = authorize(&admin, Verb::DestroyApp, &Resource::OfTeam(team(2)));
    assert_eq!(decision, Decision::Allowed);
    assert_eq!(authorize(&admin, Verb::ManagePlatform, &Resource::Platform), Decision::Allowed);
}

#[test]
fn a_viewer_reads_and_does_nothing_else() {
    let viewer = caller(&[(team(1), Role::Viewer)]);
    for verb in Verb::ALL {
        let reads = matches!(verb, Verb::Read | Verb::Fetch);
        let expected = if reads { Decision::Allowed } else { Decision::Denied };
        for resource in [Resource::OfTeam(team(1)), Resource::App { team: team(1), app: app(1) }] {
            assert_eq!(authorize(&viewer, verb, &resource), expected, "{verb:?}");
        }
    }
}

#[test]
fn a_role_in_one_team_is_none_in_another_and_none_for_the_platform() {
    let both = caller(&[(team(1), Role::Viewer), (team(2), Role::Operator)]);
    let decide = |verb, n| authorize(&both, verb, &Resource::OfTeam(team(n)));
    assert_eq!(decide(Verb::ManageAccess, 1), Decision::Denied);
    assert_eq!(decide(Verb::ManageAccess, 2), Decision::Allowed);
    assert_eq!(decide(Verb::Read, 3), Decision::Hidden);
    for verb in Verb::ALL.into_iter().filter(|verb| verb.least_role() > Role::Viewer) {
        assert_eq!(authorize(&both, verb, &Resource::Platform), Decision::Denied, "{verb:?}");
    }
    let lists = both.visible_with(Verb::ManageAccess);
    assert_eq!(lists, Visible::team(team(2)));
    assert!(both.may_somewhere(Verb::OverridePolicy));
    assert!(!both.may_somewhere(Verb::ManagePlatform));
}

#[test]
fn who_has_no_role_sees_the_platform_and_nothing_in_it() {
    let nobody = caller(&[]);
    assert_eq!(authorize(&nobody, Verb::Read, &Resource::Platform), Decision::Allowed);
    assert_eq!(authorize(&nobody, Verb::Read, &Resource::OfTeam(team(1))), Decision::Hidden);
    assert_eq!(nobody.visible(), Visible::Only { teams: Some([].into()), apps: None });
    assert_eq!(nobody.highest_role(), None);
}

#[test]
fn a_token_of_one_app_finds_no_other_and_manages_nothing_beside_it() {
    for role in [Role::Developer, Role::Operator, Role::Admin] {
        let mut limited = caller(&[(team(1), role)]);
        limited.apps = Some([app(1)].into());
        for verb in Verb::ALL {
            let own = authorize(&limited, verb, &Resource::App { team: team(1), app: app(1) });
            let expected =
                if role >= verb.least_role() { Decision::Allowed } else { Decision::Denied };
            assert_eq!(own, expected, "{role:?} {verb:?}");
            let other = authorize(&limited, verb, &Resource::App { team: team(1), app: app(2) });
            assert_eq!(other, Decision::Hidden, "{role:?} {verb:?}");
            let reads = if verb == Verb::Read { Decision::Allowed } else { Decision::Denied };
            for beside in [Resource::OfTeam(team(1)), Resource::Platform] {
                assert_eq!(authorize(&limited, verb, &beside), reads, "{role:?} {verb:?}");
            }
        }
        assert!(!limited.sees_all());
        assert_eq!(limited.visible().apps(), Some(&[app(1)].into()));
    }
}

#[test]
fn a_scope_takes_away_what_the_role_would_give() {
    for (scope, allowed) in [
        (Scope::Read, &[Verb::Read, Verb::Fetch][..]),
        (Scope::Deploy, &[Verb::Read, Verb::Fetch, Verb::Deploy]),
        (Scope::All, &Verb::ALL),
    ] {
        let mut admin = caller(&[(team(1), Role::Admin)]);
        admin.scope = scope;
        for verb in Verb::ALL {
            let allowed = allowed.contains(&verb);
            let expected = if allowed { Decision::Allowed } else { Decision::Denied };
            for resource in [Resource::OfTeam(team(2)), Resource::Platform] {
                assert_eq!(authorize(&admin, verb, &resource), expected, "{scope:?} {verb:?}");
            }
        }
        assert_eq!(scope.as_str().parse(), Ok(scope));
    }
    assert!("everything".parse::<Scope>().is_err());
}

#[test]
fn verbs_have_one_text_form() {
    for verb in Verb::ALL {
        assert_eq!(serde_json::to_value(verb).unwrap(), verb.as_str());
    }
}
