/* The limit that the HL7 benchmark compares with: requests and replies of fixed sizes, nothing read but their lengths.
 *
 *   pingpong serve ADDRESS REQUEST_BYTES REPLY_BYTES                               prints its port, serves until it is killed
 *   pingpong drive ADDRESS PORT CONNECTIONS MESSAGES REQUEST_BYTES REPLY_BYTES     prints the seconds it took
 *
 * A thread for each connection on both sides, blocking send and recv in turn, TCP_NODELAY, one request in flight on each
 * connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, BUFFER = 1 << 20 };

static char outbound[BUFFER];

static void fail(const char *what) { perror(what); exit(1); }

static struct sockaddr_in address_of(const char *text, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1) { fprintf(stderr, "bad address %s\n", text); exit(2); }
    return address;
}

static void no_delay(int fd) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) fail("TCP_NODELAY");
}

static void send_all(int fd, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(fd, outbound + sent, size - sent, MSG_NOSIGNAL);
        if (count > 0) sent += (size_t)count;
        else if (errno != EINTR) fail("send");
    }
}

static size_t request_size, reply_size;

static void *serve_one(void *argument) {
    int fd = (int)(long)argument;
    char *buffer = malloc(BUFFER);
    size_t have = 0;
    for (ssize_t bytes; (bytes = recv(fd, buffer, BUFFER, 0)) > 0;)
        for (have += (size_t)bytes; have >= request_size; have -= request_size) send_all(fd, reply_size);
    free(buffer);
    close(fd);
    return NULL;
}

static int listening(const char *address) {
    struct sockaddr_in own = address_of(address, 0);
    socklen_t size = sizeof own;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&own, size) || listen(server, 1024)) fail("listen");
    if (getsockname(server, (struct sockaddr *)&own, &size)) fail("getsockname");
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    return server;
}

static void serve(int server) {
    for (pthread_t thread;;) {
        int client = accept(server, NULL, NULL);
        if (client < 0) fail("accept");
        no_delay(client);
        if (pthread_create(&thread, NULL, serve_one, (void *)(long)client) || pthread_detach(thread)) fail("pthread_create");
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int connected(struct sockaddr_in *target) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)target, sizeof *target)) fail("connect");
    no_delay(fd);
    return fd;
}

static atomic_long tickets; /* how many messages may still be begun */

static void exchange(int fd) {
    char buffer[8192];
    send_all(fd, request_size);
    for (size_t have = 0; have < reply_size;) {
        ssize_t bytes = recv(fd, buffer, sizeof buffer, 0);
        if (bytes <= 0) fail("recv");
        have += (size_t)bytes;
    }
}

static void *drive_one(void *argument) {
    while (atomic_fetch_sub(&tickets, 1) > 0) exchange((int)(long)argument);
    return NULL;
}

static void drive(const char *address, int port, int connections) {
    static int fds[CONNECTIONS_MAX];
    static pthread_t threads[CONNECTIONS_MAX];
    struct sockaddr_in target = address_of(address, port);
    for (int i = 0; i < connections; i++) {
        fds[i] = connected(&target);
        exchange(fds[i]); /* the way is open before the clock starts */
    }
    double begin = seconds();
    for (int i = 0; i < connections; i++)
        if (pthread_create(&threads[i], NULL, drive_one, (void *)(long)fds[i])) fail("pthread_create");
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    printf("%.9f\n", seconds() - begin);
}

int main(int count, char **words) {
    if (count < 5) return 2;
    request_size = strtoul(words[count - 2], NULL, 10);
    reply_size = strtoul(words[count - 1], NULL, 10);
    if (request_size < 1 || reply_size < 1 || request_size > BUFFER || reply_size > BUFFER) return 2;
    if (count == 5 && !strcmp(words[1], "serve")) serve(listening(words[2]));
    else if (count == 8 && !strcmp(words[1], "drive") && atoi(words[4]) <= CONNECTIONS_MAX) {
        tickets = atol(words[5]);
        drive(words[2], atoi(words[3]), atoi(words[4]));
    } else return 2;
    return 0;
}
