use super::*;

const BASE: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 0);

fn query(name: &str, kind: u16, class: u16) -> Vec<u8> {
    let mut text = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        text.push(label.len() as u8);
        text.extend_from_slice(label.as_bytes());
    }
    text.push(0);
    text.extend_from_slice(&kind.to_be_bytes());
    text.extend_from_slice(&class.to_be_bytes());
    text
}

/// Where the only add-on listens.
const ADDON: [u8; 4] = [10, 203, 1, 7];

fn addons(name: &str) -> Option<Ipv4Addr> {
    (name == "db").then_some(ADDON.into())
}

/// Code and data of an answer that is made here.
fn answered(message: &[u8]) -> (u8, Vec<u8>) {
    match judge(message, BASE, &addons) {
        Verdict::Answer(answer) => {
            assert_eq!(answer[..2], message[..2]);
            assert_eq!(answer[2] & IS_ANSWER, IS_ANSWER);
            let records = u16::from_be_bytes([answer[6], answer[7]]);
            let data =
                if records == 0 { Vec::new() } else { answer[message.len() + 12..].to_vec() };
            (answer[3] & 0xf, data)
        }
        other => panic!("{other:?}"),
    }
}

fn is_forwarded(message: &[u8]) -> bool {
    matches!(judge(message, BASE, &addons), Verdict::Forward(_))
}

#[test]
fn localhost_is_the_instance_itself_and_no_server_is_asked() {
    for name in ["localhost", "app.localhost", "LOCALHOST", "a.b.LocalHost"] {
        assert_eq!(answered(&query(name, KIND_A, 1)), (0, vec![127, 0, 0, 1]), "{name}");
        let six = Ipv6Addr::LOCALHOST.octets().to_vec();
        assert_eq!(answered(&query(name, KIND_AAAA, 1)), (0, six), "{name}");
        assert_eq!(answered(&query(name, 16, 1)), (0, vec![]), "{name}");
    }
}

#[test]
fn an_addon_is_found_by_its_name_and_no_server_is_asked() {
    for name in ["db.internal", "DB.Internal"] {
        assert_eq!(answered(&query(name, KIND_A, 1)), (0, ADDON.to_vec()), "{name}");
        assert_eq!(answered(&query(name, KIND_AAAA, 1)), (0, vec![]), "{name}");
    }
    assert_eq!(answered(&query("other.internal", KIND_A, 1)).0, Code::NoSuchName as u8);
    for name in ["internal", "a.db.internal", "db.internal.example", "db"] {
        assert!(is_forwarded(&query(name, KIND_A, 1)), "{name}");
    }
}

#[test]
fn what_is_never_there_does_not_exist_and_what_only_looks_so_is_forwarded() {
    for name in
        ["invalid", "x.invalid", "abc.onion", "7.1.203.10.in-addr.arpa", "203.10.in-addr.arpa"]
    {
        assert_eq!(answered(&query(name, KIND_A, 1)).0, Code::NoSuchName as u8, "{name}");
    }
    for name in [
        "",
        "org",
        "example.org",
        "localhost.example",
        "7.1.204.10.in-addr.arpa",
        "10.in-addr.arpa",
    ] {
        assert!(is_forwarded(&query(name, KIND_A, 1)), "{name}");
    }
}

#[test]
fn zone_transfers_other_classes_and_other_operations_are_refused() {
    for (kind, class) in [(KIND_AXFR, 1), (KIND_IXFR, 1), (16, 3), (KIND_A, 255)] {
        let refused = answered(&query("version.bind", kind, class));
        assert_eq!(refused, (Code::Refused as u8, vec![]), "{kind} {class}");
    }
    let mut update = query("example.org", 6, 1);
    update[2] = 5 << 3;
    assert_eq!(answered(&update).0, Code::NotImplemented as u8);
}

#[test]
fn what_is_no_query_is_dropped_and_a_broken_one_is_called_so() {
    let good = query("example.org", KIND_A, 1);
    let mut reply = good.clone();
    reply[2] |= IS_ANSWER;
    for message in [&good[..11], &[], &reply] {
        assert_eq!(judge(message, BASE, &addons), Verdict::Drop);
    }
    let mut two = good.clone();
    two[5] = 2;
    let mut pointer = good.clone();
    pointer[12] = 0xc0;
    let long_name = query(&vec!["a".repeat(63); 4].join("."), KIND_A, 1);
    let cut = &good[..good.len() - 1];
    for message in [two.as_slice(), &pointer, &long_name, cut, &good[..12]] {
        assert_eq!(answered(message).0, Code::Malformed as u8, "{message:?}");
    }
    let longest = [&"a".repeat(63)[..]; 3].join(".") + "." + &"a".repeat(61);
    assert!(is_forwarded(&query(&longest, KIND_A, 1)));
}

#[test]
fn an_answer_must_have_the_id_and_the_question_of_the_query() {
    let message = query("Example.org", KIND_A, 1);
    let Verdict::Forward(question) = judge(&message, BASE, &addons) else {
        panic!("not forwarded")
    };
    let mut reply = message.clone();
    reply[2] |= IS_ANSWER;
    assert_eq!(code_of(&reply, 0xabcd, &question), Some(0));
    assert_eq!(code_of(&reply, 0xabce, &question), None, "another id");
    assert_eq!(code_of(&message, 0xabcd, &question), None, "a query");
    assert_eq!(code_of(&reply[..20], 0xabcd, &question), None, "cut");
    let mut other = query("example.com", KIND_A, 1);
    other[2] |= IS_ANSWER;
    assert_eq!(code_of(&other, 0xabcd, &question), None, "another name");
    let mut lower = query("example.ORG", KIND_A, 1);
    lower[2] |= IS_ANSWER;
    assert_eq!(code_of(&lower, 0xabcd, &question), Some(0), "case does not count");
    let mut kind = reply.clone();
    let at = kind.len() - 3;
    kind[at] = KIND_AAAA as u8;
    assert_eq!(code_of(&kind, 0xabcd, &question), None, "another kind");
    let mut failure = reply[..HEADER].to_vec();
    failure[5] = 0;
    assert_eq!(code_of(&failure, 0xabcd, &question), None, "no question and no failure");
    failure[3] = Code::Refused as u8;
    assert_eq!(code_of(&failure, 0xabcd, &question), Some(Code::Refused as u8));
}

#[test]
fn a_truncated_answer_keeps_the_question_and_says_so() {
    let message = query("example.org", 16, 1);
    let Verdict::Forward(question) = judge(&message, BASE, &addons) else {
        panic!("not forwarded")
    };
    let answer = truncated(&message, &question);
    assert_eq!(answer[2], IS_ANSWER | TRUNCATED | RECURSION_DESIRED);
    assert_eq!(answer[HEADER..], message[HEADER..]);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let verdict = judge(&bytes, BASE, &addons);
        if let Verdict::Answer(answer) = &verdict {
            proptest::prop_assert!(answer.len() <= bytes.len() + 28);
        }
        if let Verdict::Forward(question) = &verdict {
            proptest::prop_assert!(code_of(&bytes, 0, question).is_none());
        }
    }
}
