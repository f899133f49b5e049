//! Reports for people.

use std::fmt::Write;

use sallyport_audit_proof::{ChainId, Found, Place, Report};

/// As JSON.
pub(super) fn json(report: &Report) -> String {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("intact".into(), report.is_intact().into());
    }
    format!("{value:#}")
}

/// As text.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(report, &mut text);
    text.truncate(text.trim_end().len());
    text
}

fn write(report: &Report, to: &mut String) -> std::fmt::Result {
    writeln!(to, "{} events of {} chains, {} checkpoints", report.events, report.chains, report.checkpoints)?;
    let covers = &report.covers;
    for (word, value) in [("since", &covers.since), ("until", &covers.until), ("server", &covers.server)] {
        if let Some(value) = value {
            writeln!(to, "  only {word} {value}")?;
        }
    }
    match &report.last_checkpoint {
        Some(last) => {
            writeln!(to, "last checkpoint {} of {}, hash {}", last.sequence, time(last.nanos), last.hash)?;
        }
        None => writeln!(to, "no checkpoint: the chains prove themselves, nobody signs them")?,
    }
    if report.not_sealed > 0 {
        writeln!(to, "{} events are newer than the last checkpoint", report.not_sealed)?;
    }
    if report.removed > 0 {
        let before =
            report.removed_before_nanos.map_or(String::new(), |nanos| format!(" before {}", time(nanos)));
        let removed = report.removed;
        writeln!(to, "{removed} events were removed by retention{before}, as the checkpoints say")?;
    }
    section(to, "gaps", &report.gaps, |gap| {
        let at_least = if gap.reason == "proxy_ended" { "at least " } else { "" };
        let when = gap.before_nanos.map_or("at its end".into(), |nanos| format!("before {}", time(nanos)));
        format!(
            "{}: {at_least}{} missing ({} to {}), {when}: {}",
            name(&gap.chain),
            gap.missing,
            gap.from,
            gap.to,
            gap.reason
        )
    })?;
    section(to, "removed or cut off", &report.truncations, |cut| {
        let place = match cut.place {
            Place::Start => "at its start",
            Place::Middle => "in the middle",
            Place::Tail => "at its end",
            Place::Whole => "all of it",
        };
        let (chain, checkpoint) = (name(&cut.chain), cut.checkpoint);
        format!(
            "{chain}: {} events between {} and {}, {place}; checkpoint {checkpoint} counted them",
            cut.missing, cut.from, cut.to
        )
    })?;
    section(to, "altered or forged", &report.alterations, |altered| {
        format!("{} event {}: {}", name(&altered.chain), altered.seq, altered.what)
    })?;
    section(to, "checkpoints", &report.checkpoint_faults, |fault| {
        format!("checkpoint {}: {}", fault.sequence, fault.what)
    })?;
    for fault in &report.export_faults {
        writeln!(to, "the export: {fault}")?;
    }
    if report.is_intact() {
        writeln!(to, "intact: nothing was altered or removed, and every missing event is explained")
    } else {
        writeln!(to, "NOT INTACT")
    }
}

fn section<T>(
    to: &mut String,
    title: &str,
    found: &Found<T>,
    line: impl Fn(&T) -> String,
) -> std::fmt::Result {
    if found.total == 0 {
        return Ok(());
    }
    writeln!(to, "{title}: {}", found.total)?;
    for item in &found.listed {
        writeln!(to, "  {}", line(item))?;
    }
    match found.total.saturating_sub(u64::try_from(found.listed.len()).unwrap_or(0)) {
        0 => Ok(()),
        more => writeln!(to, "  and {more} more"),
    }
}

fn name(chain: &ChainId) -> String {
    format!("{} worker {} since {}", chain.proxy, chain.worker, time(chain.epoch))
}

pub(super) fn time(nanos: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    format!("{time:.3}")
}
