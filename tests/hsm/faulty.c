/* A PKCS#11 module that forwards everything to another one, and misbehaves when a file says so.
 *
 * FAULTY_MODULE: the module behind it. FAULTY_ORDERS: a file of lines "FUNCTION WHAT [VALUE]", read at every call:
 *   hang            never return
 *   crash           end the process by SIGSEGV
 *   return 0xNN     return this CK_RV without asking the module behind
 *   …-once          the same for one call only: the orders are taken away first
 *   wait N          take N milliseconds more, without the processor's time
 *   most N          (C_OpenSession) CKR_SESSION_COUNT when N files "session.*" lie beside the orders already
 * FAULTY_CALLS: a file to which the name of every watched call is appended.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv_t;
typedef struct {
    unsigned char version[2];
    void *calls[68];
} function_list;

enum { GET_SLOT_LIST = 4, OPEN_SESSION = 12, LOGIN = 18, FIND_OBJECTS_INIT = 26, SIGN_INIT = 42, SIGN = 43 };
#define CKR_SESSION_COUNT 0xB1UL

static function_list *behind;
static function_list ours;

static void note(const char *name) {
    const char *path = getenv("FAULTY_CALLS");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file < 0)
        return;
    dprintf(file, "%s %d\n", name, (int)getpid());
    close(file);
}

/* Whether the orders say something about this call; what it returns is in rv then. */
static int misbehave(const char *name, rv_t *rv) {
    char line[200], function[60], what[60];
    unsigned long value;
    const char *path = getenv("FAULTY_ORDERS");
    FILE *orders = path ? fopen(path, "r") : NULL;
    int found = 0;
    note(name);
    while (orders && !found && fgets(line, sizeof line, orders)) {
        value = 0;
        if (sscanf(line, "%59s %59s %li", function, what, (long *)&value) < 2 || strcmp(function, name))
            continue;
        char *once = strstr(what, "-once");
        if (once) {
            *once = 0;
            if (unlink(path)) /* another process was quicker */
                continue;
        }
        if (!strcmp(what, "hang"))
            for (;;)
                pause();
        if (!strcmp(what, "crash"))
            raise(SIGSEGV);
        if (!strcmp(what, "wait"))
            usleep((useconds_t)value * 1000);
        if (!strcmp(what, "return")) {
            *rv = value;
            found = 1;
        }
        if (!strcmp(what, "most")) {
            char held[400];
            unsigned long number;
            for (number = 0; number < value; number++) {
                snprintf(held, sizeof held, "%s.session.%lu", path, number);
                int file = open(held, O_WRONLY | O_CREAT, 0600);
                if (file >= 0 && lockf(file, F_TLOCK, 0) == 0)
                    break; /* kept open: the lock is this process's session */
                close(file);
            }
            if (number == value) {
                *rv = CKR_SESSION_COUNT;
                found = 1;
            }
        }
    }
    if (orders)
        fclose(orders);
    return found;
}

static rv_t get_slot_list(unsigned char present, void *list, void *count) {
    rv_t rv;
    if (misbehave("C_GetSlotList", &rv))
        return rv;
    return ((rv_t(*)(unsigned char, void *, void *))behind->calls[GET_SLOT_LIST])(present, list, count);
}

static rv_t open_session(rv_t slot, rv_t flags, void *application, void *notify, void *session) {
    rv_t rv;
    if (misbehave("C_OpenSession", &rv))
        return rv;
    return ((rv_t(*)(rv_t, rv_t, void *, void *, void *))behind->calls[OPEN_SESSION])(
        slot, flags, application, notify, session);
}

static rv_t login(rv_t session, rv_t user, void *pin, rv_t length) {
    rv_t rv;
    if (misbehave("C_Login", &rv))
        return rv;
    return ((rv_t(*)(rv_t, rv_t, void *, rv_t))behind->calls[LOGIN])(session, user, pin, length);
}

static rv_t find_objects_init(rv_t session, void *template, rv_t count) {
    rv_t rv;
    if (misbehave("C_FindObjectsInit", &rv))
        return rv;
    return ((rv_t(*)(rv_t, void *, rv_t))behind->calls[FIND_OBJECTS_INIT])(session, template, count);
}

static rv_t sign_init(rv_t session, void *mechanism, rv_t key) {
    rv_t rv;
    if (misbehave("C_SignInit", &rv))
        return rv;
    return ((rv_t(*)(rv_t, void *, rv_t))behind->calls[SIGN_INIT])(session, mechanism, key);
}

static rv_t sign(rv_t session, void *data, rv_t length, void *signature, void *signature_length) {
    rv_t rv;
    if (misbehave("C_Sign", &rv))
        return rv;
    return ((rv_t(*)(rv_t, void *, rv_t, void *, void *))behind->calls[SIGN])(
        session, data, length, signature, signature_length);
}

rv_t C_GetFunctionList(function_list **list) {
    rv_t (*get)(function_list **);
    void *module = dlopen(getenv("FAULTY_MODULE"), RTLD_NOW);
    if (!module || !(get = (rv_t(*)(function_list **))dlsym(module, "C_GetFunctionList")) || get(&behind))
        return 5UL; /* CKR_GENERAL_ERROR */
    ours = *behind;
    ours.version[0] = 2;
    ours.version[1] = 40;
    ours.calls[3] = (void *)C_GetFunctionList;
    ours.calls[GET_SLOT_LIST] = (void *)get_slot_list;
    ours.calls[OPEN_SESSION] = (void *)open_session;
    ours.calls[LOGIN] = (void *)login;
    ours.calls[FIND_OBJECTS_INIT] = (void *)find_objects_init;
    ours.calls[SIGN_INIT] = (void *)sign_init;
    ours.calls[SIGN] = (void *)sign;
    *list = &ours;
    return 0;
}
