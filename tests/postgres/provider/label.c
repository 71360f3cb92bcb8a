/* A provider of security labels for tests: the only one PostgreSQL ships needs SELinux. It takes any label. What it uses of
 * PostgreSQL 15 (fmgr.h, commands/seclabel.h) is declared here, so that no header needs to be installed. */
struct magic { int length, version, arguments_max, index_keys_max, name_bytes, float8_by_value; char abi[32]; };

const void *Pg_magic_func(void)
{
    static const struct magic ours = { sizeof(struct magic), 1500, 100, 32, 64, 1, "PostgreSQL" };
    return &ours;
}

void register_label_provider(const char *name, void (*check)(const void *object, const char *label));

static void accept(const void *object, const char *label) {}

void _PG_init(void)
{
    register_label_provider("warmspare_test", accept);
}
