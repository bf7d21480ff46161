/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "storage/wire/cycle.h"
#include "storage/util/json_util.h"

#define ID "0123456789abcdef0123456789abcdef"
#define ID2 "ffffffffffffffffffffffffffffffff"
#define SHA ID ID

static void
test_names(void)
{
    VrConsistency consistency = VR_CONSISTENCY_APP;
    VrCycleKind kind = VR_CYCLE_FINAL;

    for (guint i = VR_CYCLE_INITIAL; i <= VR_CYCLE_FINAL; i++) {
        g_assert_true(vr_cycle_kind_from_name(vr_cycle_kind_name((VrCycleKind) i), &kind));
        g_assert_cmpuint(kind, ==, i);
    }
    for (guint i = VR_CONSISTENCY_CRASH; i <= VR_CONSISTENCY_APP; i++) {
        g_assert_true(
            vr_consistency_from_name(vr_consistency_name((VrConsistency) i), &consistency));
        g_assert_cmpuint(consistency, ==, i);
    }
    g_assert_false(vr_cycle_kind_from_name("full", &kind));
    g_assert_false(vr_cycle_kind_from_name(NULL, &kind));
    g_assert_false(vr_consistency_from_name("", &consistency));
    g_assert_cmpuint(kind, ==, VR_CYCLE_FINAL);
    g_assert_cmpuint(consistency, ==, VR_CONSISTENCY_APP);
}

/* Through text, as on the wire. (transfer full) */
static JsonNode *
through_text(JsonNode *node)
{
    g_autoptr(JsonNode) owned = node;
    g_autofree char *text = vr_json_to_text(owned);
    g_autoptr(GError) error = NULL;
    JsonNode *parsed = vr_json_parse(text, strlen(text), VR_JSON_MAX_BYTES, &error);

    g_assert_no_error(error);
    return parsed;
}

static void
test_begin(void)
{
    g_autoptr(VrCycleBegin) begin = g_new0(VrCycleBegin, 1);
    g_autoptr(GError) error = NULL;

    begin->cycle = g_strdup(ID);
    begin->kind = VR_CYCLE_RESYNC;
    begin->generation = g_strdup(ID2);
    begin->disks = vr_cycle_disks_new();
    vr_cycle_disks_add(begin->disks, "vda", VR_MAX_DISK_BYTES);
    vr_cycle_disks_add(begin->disks, "sdb", 512);
    for (guint base = 0; base < 2; base++) {
        g_autoptr(JsonNode) node = through_text(vr_cycle_begin_to_json(begin));
        g_autoptr(VrCycleBegin) back = vr_cycle_begin_from_json(node, &error);
        const VrCycleDisk *disk;

        g_assert_no_error(error);
        g_assert_cmpstr(back->cycle, ==, ID);
        g_assert_cmpint(back->kind, ==, VR_CYCLE_RESYNC);
        g_assert_cmpstr(back->generation, ==, ID2);
        g_assert_cmpuint(back->base_number, ==, begin->base_number);
        g_assert_cmpstr(back->base_cycle, ==, begin->base_cycle);
        g_assert_cmpuint(back->disks->len, ==, 2);
        disk = g_ptr_array_index(back->disks, 0);
        g_assert_cmpstr(disk->name, ==, "vda");
        g_assert_cmpuint(disk->size_bytes, ==, VR_MAX_DISK_BYTES);
        begin->base_number = G_MAXINT64;
        g_free(begin->base_cycle);
        begin->base_cycle = g_strdup(ID2);
    }
}

static void
test_commit(void)
{
    g_autoptr(VrCycleCommit) commit = g_new0(VrCycleCommit, 1);
    g_autoptr(VrCycleCommit) back = NULL;
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GError) error = NULL;
    const VrAttachment *attachment;

    commit->cycle = g_strdup(ID);
    commit->time_us = G_GINT64_CONSTANT(1790000000123456);
    commit->consistency = VR_CONSISTENCY_APP;
    commit->root = g_strdup(SHA);
    commit->domain_xml = g_strdup("<domain>\n\"ä\"</domain>");
    commit->attachments = vr_attachments_new();
    vr_attachments_add(commit->attachments, "nvram", 131072, SHA);
    vr_attachments_add(commit->attachments, "initrd", 0, SHA);
    node = through_text(vr_cycle_commit_to_json(commit));
    back = vr_cycle_commit_from_json(node, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(back->cycle, ==, ID);
    g_assert_cmpint(back->time_us, ==, commit->time_us);
    g_assert_cmpint(back->consistency, ==, VR_CONSISTENCY_APP);
    g_assert_cmpstr(back->root, ==, SHA);
    g_assert_cmpstr(back->domain_xml, ==, commit->domain_xml);
    g_assert_cmpuint(back->attachments->len, ==, 2);
    attachment = g_ptr_array_index(back->attachments, 0);
    g_assert_cmpstr(attachment->name, ==, "nvram");
    g_assert_cmpuint(attachment->size_bytes, ==, 131072);
    g_assert_cmpstr(attachment->sha256, ==, SHA);
}

static void
test_recovery_point(void)
{
    g_autoptr(VrRecoveryPoint) rp = g_new0(VrRecoveryPoint, 1);
    g_autoptr(VrRecoveryPoint) back = NULL;
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GError) error = NULL;

    rp->number = 17;
    rp->cycle = g_strdup(ID);
    rp->time_us = G_GINT64_CONSTANT(1767225600123456);
    rp->stored_us = G_GINT64_CONSTANT(1767225601000001);
    rp->consistency = VR_CONSISTENCY_CRASH;
    rp->root = g_strdup(SHA);
    rp->bytes = G_GUINT64_CONSTANT(1) << 45;
    rp->pinned = TRUE;
    node = through_text(vr_recovery_point_to_json(rp));
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(node), "time"), ==,
                    "2026-01-01T00:00:00.123Z");
    back = vr_recovery_point_from_json(node, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->number, ==, 17);
    g_assert_cmpstr(back->cycle, ==, ID);
    g_assert_cmpint(back->time_us, ==, rp->time_us);
    g_assert_cmpint(back->stored_us, ==, rp->stored_us);
    g_assert_cmpint(back->consistency, ==, VR_CONSISTENCY_CRASH);
    g_assert_cmpstr(back->root, ==, SHA);
    g_assert_cmpuint(back->bytes, ==, rp->bytes);
    g_assert_true(back->pinned);
}

/* A good message of which one key is replaced, or left out (value NULL). */
typedef struct {
    const char *key;
    const char *value;
} Row;

static const Row good_begin[] = {
    {"cycle", "\"" ID "\""},
    {"kind", "\"delta\""},
    {"generation", "\"" ID2 "\""},
    {"base_number", "4"},
    {"base_cycle", "\"" ID2 "\""},
    {"future", "{\"a\":[1]}"},
    {"disks", "[{\"name\":\"vda\",\"size\":1024,\"x\":0}]"},
};

static const Row bad_begin[] = {
    {"cycle", NULL},
    {"cycle", "7"},
    {"cycle", "\"0123456789ABCDEF0123456789abcdef\""},
    {"cycle", "\"" ID "0\""},
    {"cycle", "\"../../../../../../../../../../aa\""},
    {"kind", NULL},
    {"kind", "\"full\""},
    {"kind", "1"},
    {"generation", NULL},
    {"generation", "\"\""},
    {"base_number", NULL},
    {"base_number", "-1"},
    {"base_number", "4.5"},
    {"base_number", "\"4\""},
    {"base_number", "0"},
    {"base_cycle", NULL},
    {"base_cycle", "null"},
    {"base_cycle", "\"x\""},
    {"disks", NULL},
    {"disks", "{}"},
    {"disks", "[]"},
    {"disks", "[7]"},
    {"disks", "[{\"name\":\"vda\"}]"},
    {"disks", "[{\"size\":512}]"},
    {"disks", "[{\"name\":\"vda\",\"size\":0}]"},
    {"disks", "[{\"name\":\"vda\",\"size\":513}]"},
    {"disks", "[{\"name\":\"vda\",\"size\":70368744178176}]"},
    {"disks", "[{\"name\":\"vda\",\"size\":\"512\"}]"},
    {"disks", "[{\"name\":\"../a\",\"size\":512}]"},
    {"disks", "[{\"name\":\"vda\",\"size\":512},{\"name\":\"vda\",\"size\":512}]"},
};

static const Row good_commit[] = {
    {"cycle", "\"" ID "\""},
    {"time_us", "1767225600123456"},
    {"consistency", "\"crash\""},
    {"root", "\"" SHA "\""},
    {"domain_xml", "\"<domain/>\""},
    {"attachments", "[{\"name\":\"dtb\",\"size\":5,\"sha256\":\"" SHA "\"}]"},
};

static const Row bad_commit[] = {
    {"cycle", "null"},
    {"time_us", "-5"},
    {"time_us", "253402300800000000"},
    {"time_us", "\"2026\""},
    {"consistency", "\"none\""},
    {"consistency", "true"},
    {"root", "\"" ID "\""},
    {"root", "\"" ID ID2 "0\""},
    {"root", "\"" ID "0123456789abcdef0123456789abcdeg\""},
    {"domain_xml", "\"\""},
    {"domain_xml", "[]"},
    {"attachments", NULL},
    {"attachments", "null"},
    {"attachments", "[null]"},
    {"attachments", "[{\"name\":\"passwd\",\"size\":5,\"sha256\":\"" SHA "\"}]"},
    {"attachments", "[{\"name\":\"dtb\",\"size\":536870913,\"sha256\":\"" SHA "\"}]"},
    {"attachments", "[{\"name\":\"dtb\",\"size\":5,\"sha256\":\"../x\"}]"},
    {"attachments", "[{\"name\":\"dtb\",\"size\":5,\"sha256\":\"" SHA "\"},"
                    "{\"name\":\"dtb\",\"size\":5,\"sha256\":\"" SHA "\"}]"},
};

static const Row good_rp[] = {
    {"number", "1"},
    {"cycle", "\"" ID "\""},
    {"time_us", "0"},
    {"stored_us", "253402300799999999"},
    {"consistency", "\"app\""},
    {"root", "\"" SHA "\""},
    {"bytes", "0"},
    {"pinned", "false"},
};

static const Row bad_rp[] = {
    {"number", "0"},      {"number", "1.0"},     {"cycle", NULL},    {"time_us", NULL},
    {"stored_us", "-1"},  {"root", "\"0\""},     {"bytes", "-1"},    {"bytes", "true"},
    {"pinned", NULL},     {"pinned", "0"},       {"pinned", "\"\""}, {"pinned", "[]"},
    {"consistency", "0"}, {"consistency", NULL},
};

static gboolean
begin_parses(JsonNode *node, GError **error)
{
    g_autoptr(VrCycleBegin) begin = vr_cycle_begin_from_json(node, error);

    return begin != NULL;
}

static gboolean
commit_parses(JsonNode *node, GError **error)
{
    g_autoptr(VrCycleCommit) commit = vr_cycle_commit_from_json(node, error);

    return commit != NULL;
}

static gboolean
rp_parses(JsonNode *node, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = vr_recovery_point_from_json(node, error);

    return rp != NULL;
}

static JsonNode *
message(const Row *good, guint n_good, const Row *change)
{
    g_autoptr(GString) text = g_string_new("{\"zz\":0");
    g_autoptr(GError) error = NULL;
    JsonNode *node;

    for (guint i = 0; i < n_good; i++) {
        gboolean changed = change && strcmp(change->key, good[i].key) == 0;
        const char *value = changed ? change->value : good[i].value;

        if (value)
            g_string_append_printf(text, ",\"%s\":%s", good[i].key, value);
    }
    g_string_append_c(text, '}');
    node = vr_json_parse(text->str, text->len, VR_JSON_MAX_BYTES, &error);
    g_assert_no_error(error);
    return node;
}

static void
check_rows(gboolean (*parses)(JsonNode *, GError **), const Row *good, guint n_good, const Row *bad,
           guint n_bad)
{
    g_autoptr(JsonNode) fine = message(good, n_good, NULL);
    g_autoptr(JsonNode) array = json_node_new(JSON_NODE_ARRAY);
    g_autoptr(GError) error = NULL;

    json_node_take_array(array, json_array_new());
    g_assert_true(parses(fine, &error));
    g_assert_no_error(error);
    g_assert_false(parses(array, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    for (guint i = 0; i < n_bad; i++) {
        g_autoptr(JsonNode) node = message(good, n_good, &bad[i]);

        g_clear_error(&error);
        if (parses(node, &error))
            g_error("accepted: %s: %s", bad[i].key, bad[i].value);
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(vr_error_slug(error), ==, "bad-message");
    }
}

static void
test_refused(void)
{
#define CHECK(name)                                                                                \
    check_rows(name##_parses, good_##name, G_N_ELEMENTS(good_##name), bad_##name,                  \
               G_N_ELEMENTS(bad_##name))
    CHECK(begin);
    CHECK(commit);
    CHECK(rp);
}

/* One disk, one byte of XML over the limit. */
static void
test_limits(void)
{
    g_autoptr(GString) disks = g_string_new("[");
    g_autofree char *xml = g_strnfill(256 * 1024, 'x');
    g_autofree char *fits = g_strdup_printf("\"%s\"", xml);
    g_autofree char *over = g_strdup_printf("\"%sx\"", xml);
    const Row rows[] = {{"domain_xml", fits}, {"domain_xml", over}};

    for (guint i = 0; i <= VR_MAX_DISKS; i++) {
        g_autofree char *text = NULL;
        g_autoptr(JsonNode) node = NULL;
        g_autoptr(GError) error = NULL;

        g_string_append_printf(disks, "%s{\"name\":\"vd%u\",\"size\":512}", i ? "," : "", i);
        text = g_strconcat(disks->str, "]", NULL);
        node = message(good_begin, G_N_ELEMENTS(good_begin), &(Row){"disks", text});
        g_assert_cmpint(begin_parses(node, &error), ==, i < VR_MAX_DISKS);
    }
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(JsonNode) node = message(good_commit, G_N_ELEMENTS(good_commit), &rows[i]);
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(commit_parses(node, &error), ==, i == 0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cycle/names", test_names);
    g_test_add_func("/cycle/begin", test_begin);
    g_test_add_func("/cycle/commit", test_commit);
    g_test_add_func("/cycle/recovery-point", test_recovery_point);
    g_test_add_func("/cycle/refused", test_refused);
    g_test_add_func("/cycle/limits", test_limits);
    return g_test_run();
}
