use super::*;

fn day(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((20_000 + number) * DAY)
}

fn ours(data: Data) -> Stored {
    Stored { is_ours: true, data }
}

fn first() -> Stored {
    ours(authority(None, "first", day(0)).unwrap().unwrap())
}

fn names() -> BTreeSet<String> {
    ["a.test".to_string()].into()
}

fn issued(signer: &Stored, at: u64) -> Stored {
    let bundle = bundle(signer, &[], day(at));
    ours(server(None, &signer.authority(), &bundle, &names(), day(at)).unwrap().unwrap())
}

/// Whether somebody who trusts `bundle` trusts what `server` shows.
fn vouches(bundle: &str, server: &Stored) -> bool {
    let issuer = server.facts(CERTIFICATE).unwrap().issuer;
    blocks(bundle).any(|block| facts(&block).unwrap().subject == issuer)
}

#[test]
fn what_is_good_stays_as_it_is() {
    let authority_now = first();
    assert_eq!(authority(Some(&authority_now), "x", day(2000)).unwrap(), None);
    let server_now = issued(&authority_now, 0);
    let bundle = bundle(&authority_now, &[], day(0));
    assert_eq!(
        server(Some(&server_now), &authority_now.authority(), &bundle, &names(), day(19)).unwrap(),
        None
    );
}

#[test]
fn a_servers_certificate_is_made_anew_in_time_and_when_its_names_or_authority_change() {
    let (one, other) = (first(), ours(authority(None, "other", day(0)).unwrap().unwrap()));
    let bundle = bundle(&one, &[], day(0));
    let stored = issued(&one, 0);
    let anew = |stored: &Stored, signer: &Stored, names: &BTreeSet<String>, at| {
        let data = server(Some(stored), &signer.authority(), &bundle, names, day(at)).unwrap().unwrap();
        assert_ne!(data[KEY], stored.data[KEY], "with a key of its own");
        ours(data).pem().certified().unwrap();
    };
    anew(&stored, &one, &names(), 20);
    anew(&stored, &other, &names(), 1);
    anew(&stored, &one, &["b.test".to_string()].into(), 1);
    let mut broken = stored;
    broken.data.insert(KEY.into(), "text".into());
    anew(&broken, &one, &names(), 1);
}

#[test]
fn an_authoritys_successor_is_trusted_a_day_before_it_signs_and_the_old_one_until_it_ends() {
    let before = first();
    let due = 3650 * 2 / 3 + 1;
    let overlapping = ours(authority(Some(&before), "second", day(due)).unwrap().unwrap());
    assert_eq!(overlapping.authority(), before.authority(), "the old one signs on");
    let handed_out = bundle(&overlapping, &[], day(due));
    assert_eq!(blocks(&handed_out).count(), 2);
    let kept = issued(&before, due);
    let rewritten =
        server(Some(&kept), &overlapping.authority(), &handed_out, &names(), day(due)).unwrap().unwrap();
    assert_eq!(
        (&rewritten[KEY], &rewritten[BUNDLE]),
        (&kept.data[KEY], &handed_out),
        "the bundle alone changes"
    );
    assert_eq!(authority(Some(&overlapping), "x", day(due)).unwrap(), None, "nothing within the day");
    let after = ours(authority(Some(&overlapping), "x", day(due + 1)).unwrap().unwrap());
    assert_ne!(after.authority(), before.authority());
    let renewed =
        server(Some(&kept), &after.authority(), &handed_out, &names(), day(due + 1)).unwrap().unwrap();
    let today = bundle(&after, &[], day(due + 1));
    for (trusted, shown) in [(&handed_out, &kept), (&handed_out, &ours(renewed.clone())), (&today, &kept)] {
        assert!(vouches(trusted, shown));
    }
    assert!(vouches(&today, &ours(renewed)));
    assert!(!vouches(&bundle(&after, &[], day(3651)), &kept), "what has ended is handed out no more");
    assert_eq!(authority(Some(&after), "x", day(due + 2)).unwrap(), None);
}

#[test]
fn an_authority_that_ended_or_cannot_be_read_is_replaced_at_once() {
    let stored = first();
    let replaced = |stored: &Stored, at| {
        let data = authority(Some(stored), "second", day(at)).unwrap().unwrap();
        assert_ne!(data[CERTIFICATE], stored.data[CERTIFICATE]);
        data
    };
    replaced(&stored, 3651);
    let mut broken = stored;
    broken.data.insert(KEY.into(), "text".into());
    let data = replaced(&broken, 1);
    assert_eq!(blocks(&data[BUNDLE]).count(), 2, "what it signed is still trusted");
}

#[test]
fn what_others_made_is_used_and_never_changed() {
    let mut given = first();
    given.is_ours = false;
    assert_eq!(authority(Some(&given), "x", day(4000)).unwrap(), None);
    let bundle_now = bundle(&given, &[], day(0));
    let foreign = Stored { is_ours: false, ..issued(&first(), 0) };
    let wanted = server(Some(&foreign), &given.authority(), &bundle_now, &names(), day(4000)).unwrap();
    assert_eq!(wanted, None);
    assert!(
        vouches(&bundle(&given, std::slice::from_ref(&foreign), day(0)), &foreign),
        "what vouches for it is handed out"
    );
}

#[test]
fn a_bundle_has_each_certificate_once_and_nothing_else() {
    let stored = first();
    let certificate = stored.text(CERTIFICATE);
    let odd = format!("subject=x\r\n{}text{certificate}", certificate.replace('\n', "\r\n"));
    assert_eq!(bundled([odd.as_str(), certificate, "text"], day(0)), certificate);
}
