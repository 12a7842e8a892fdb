//! A [`Topology`] as text: a tree for people, much like hwloc's, and stable JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{CpuSet, Pu, Topology};

/// One kind of group in the tree: its number, and whether the level is worth a line of its own.
struct Level {
    name: &'static str,
    of: fn(&Pu) -> u32,
}

pub fn human(t: &Topology) -> String {
    let mut out = String::new();
    let memory: u64 = t.nodes.iter().map(|n| n.memory_bytes).sum();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "Machine ({}, {}, {}, {})",
        plural(t.packages(), "package"),
        plural(t.cores.len(), "core"),
        plural(t.pus.len(), "CPU"),
        bytes(memory)
    );
    let mut pus: Vec<&Pu> = t.pus.iter().collect();
    pus.sort_by_key(|p| (p.core, p.id));
    group(&mut out, t, &levels(t), &pus, 1);
    for node in t.nodes.iter().filter(|n| n.cpus.is_empty()) {
        let _ = writeln!(out, "  Node {} ({}, no CPUs)", node.id, bytes(node.memory_bytes));
    }
    if t.nodes.len() > 1 {
        out.push_str(&matrix(t));
    }
    let _ = writeln!(out, "Usable here: CPUs {}, memory of nodes {}", or_none(&t.allowed), or_none(&t.allowed_nodes));
    if !t.offline.is_empty() {
        let _ = writeln!(out, "Offline: CPUs {}", t.offline);
    }
    out
}

/// Outermost first. An L3 may hold several nodes or a node several L3s; dies only where a package has more than one.
fn levels(t: &Topology) -> Vec<Level> {
    let package = Level { name: "Package", of: |p| p.package };
    let die = Level { name: "Die", of: |p| p.die };
    let node = Level { name: "Node", of: |p| p.node };
    let l3 = Level { name: "L3", of: |p| p.l3 };
    let mut levels = vec![package];
    if t.pus.iter().any(|p| p.die != p.package) {
        levels.push(die);
    }
    match t.l3s.iter().any(|l3| t.nodes_of(&l3.cpus).len() > 1) {
        true => levels.extend([l3, node]),
        false => levels.extend([node, l3]),
    }
    levels
}

fn group(out: &mut String, t: &Topology, levels: &[Level], pus: &[&Pu], depth: usize) {
    let indent = "  ".repeat(depth);
    let Some((level, inner)) = levels.split_first() else {
        for core in pus.chunk_by(|a, b| a.core == b.core) {
            let cpus: Vec<String> = core.iter().map(|p| p.id.to_string()).collect();
            let word = if cpus.len() == 1 { "CPU" } else { "CPUs" };
            let unusable = if core.iter().any(|p| t.allowed.contains(p.id)) { "" } else { " (not usable here)" };
            let _ = writeln!(out, "{indent}Core {}: {word} {}{unusable}", core[0].core, cpus.join(" "));
        }
        return;
    };
    for members in pus.chunk_by(|a, b| (level.of)(a) == (level.of)(b)) {
        let id = (level.of)(members[0]);
        let detail = match level.name {
            "Node" => t.node(id).map(|n| format!(" ({})", bytes(n.memory_bytes))),
            "L3" => t.l3s[id as usize].size_bytes.map(|b| format!(" ({})", bytes(b))),
            _ => None,
        };
        let _ = writeln!(out, "{indent}{} {id}{}", level.name, detail.unwrap_or_default());
        group(out, t, inner, members, depth + 1);
    }
}

fn matrix(t: &Topology) -> String {
    let mut out = String::from("Distances (10 is local)\n");
    let width = 5;
    let _ = write!(out, "  {:>width$}", "node");
    t.nodes.iter().for_each(|n| _ = write!(out, "{:>width$}", n.id));
    out.push('\n');
    for node in &t.nodes {
        let _ = write!(out, "  {:>width$}", node.id);
        node.distances.iter().for_each(|d| _ = write!(out, "{d:>width$}"));
        out.push('\n');
    }
    out
}

pub fn json(t: &Topology) -> Value {
    let pu = |p: &Pu| {
        json!({ "id": p.id, "core": p.core, "l3": p.l3, "die": p.die, "node": p.node, "package": p.package,
                "usable": t.allowed.contains(p.id) })
    };
    let node = |n: &super::Node| {
        let hugepages: Vec<Value> = n
            .hugepages
            .iter()
            .map(|h| json!({ "size_bytes": h.size_bytes, "total": h.total, "free": h.free }))
            .collect();
        json!({ "id": n.id, "memory_bytes": n.memory_bytes, "cpus": n.cpus, "distances": n.distances,
                "hugepages": hugepages, "usable": t.allowed_nodes.contains(n.id) })
    };
    let l3 = |(id, l3): (usize, &super::L3)| json!({ "id": id, "size_bytes": l3.size_bytes, "cpus": l3.cpus });
    json!({
        "packages": t.packages(),
        "cores": t.cores.len(),
        "allowed": t.allowed,
        "allowed_nodes": t.allowed_nodes,
        "offline": t.offline,
        "nodes": t.nodes.iter().map(node).collect::<Vec<_>>(),
        "l3s": t.l3s.iter().enumerate().map(l3).collect::<Vec<_>>(),
        "pus": t.pus.iter().map(pu).collect::<Vec<_>>(),
    })
}

fn or_none(set: &CpuSet) -> String {
    if set.is_empty() { "none".into() } else { set.to_string() }
}

/// `16 GiB`, `7.8 GiB`, `32 MiB`.
pub fn bytes(n: u64) -> String {
    let (unit, size) = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, size)| n >= *size)
        .unwrap_or(("B", 1));
    match n % size {
        0 => format!("{} {unit}", n / size),
        _ => format!("{:.1} {unit}", n as f64 / size as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machines;
    use super::*;

    #[test]
    fn a_tree_for_people() {
        let text = human(&machines::laptop().allowing("0,4-6"));
        assert_eq!(
            text,
            "Machine (1 package, 4 cores, 8 CPUs, 16 GiB)\n  Package 0\n    Node 0 (16 GiB)\n      L3 0 (8 MiB)\n        \
             Core 0: CPUs 0 4\n        Core 1: CPUs 1 5\n        Core 2: CPUs 2 6\n        \
             Core 3: CPUs 3 7 (not usable here)\nUsable here: CPUs 0,4-6, memory of nodes 0\n"
        );
    }

    #[test]
    fn far_nodes_get_a_matrix() {
        let text = human(&machines::xeon_with_cxl().topology());
        assert!(text.contains("  Node 2 (256 GiB, no CPUs)\n"), "{text}");
        assert!(text.contains("   node    0    1    2\n      0   10   20   24\n      1   20   10   24\n"), "{text}");
    }

    #[test]
    fn json_names_every_pu() {
        let v = json(&machines::ryzen_7950x().topology());
        assert_eq!(v["pus"].as_array().unwrap().len(), 32);
        assert_eq!(v["l3s"][1]["cpus"], "8-15,24-31");
    }
}
